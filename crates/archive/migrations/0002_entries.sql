-- What a log needs to be read again from here: what of it is no message, and what of a message the first step left out.

CREATE TABLE parlance.entries (
    conversation text NOT NULL,
    seq bigint NOT NULL,
    epoch bigint NOT NULL,
    message_number bigint NOT NULL,
    message_offset bigint NOT NULL,
    -- reaction, members, title, lost, deleted
    kind text NOT NULL,
    at timestamptz NOT NULL,
    -- Of the entry before.
    prev_at timestamptz NOT NULL,
    -- As the log has it: JSON with short keys.
    record bytea NOT NULL,
    PRIMARY KEY (conversation, seq)
);
CREATE INDEX entries_at ON parlance.entries (conversation, at, seq);
-- Where a life of a conversation ends, and where its log lost something.
CREATE INDEX entries_breaks ON parlance.entries (conversation, seq) WHERE kind IN ('deleted', 'lost');

-- The same for both: rows move from one to the other.
ALTER TABLE parlance.messages
    ADD COLUMN sender_username text,
    ADD COLUMN sender_picture text,
    -- Of the entry before; NULL: it was written before there was this column, and is not read again.
    ADD COLUMN prev_at timestamptz,
    -- The message as the log has it, only where the columns do not say all of it: no text in PostgreSQL holds a NUL.
    ADD COLUMN record bytea;
ALTER TABLE parlance.superseded_messages
    ADD COLUMN sender_username text,
    ADD COLUMN sender_picture text,
    ADD COLUMN prev_at timestamptz,
    ADD COLUMN record bytea;
CREATE INDEX messages_at ON parlance.messages (conversation, sent_at, seq);
