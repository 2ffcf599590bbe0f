-- Conversations, messages, reactions, members and receipts, as the logs tell of them.

CREATE TABLE parlance.conversations (
    id text PRIMARY KEY,
    -- Of its latest life; NULL: it is older than the archive.
    created_at timestamptz,
    created_by text,
    -- NULL: it is there.
    deleted_at timestamptz,
    -- The life of its log that the line above is of.
    epoch bigint NOT NULL DEFAULT 0
);

CREATE TABLE parlance.messages (
    conversation text NOT NULL,
    seq bigint NOT NULL,
    epoch bigint NOT NULL,
    -- The message's id: as text, and as the parts of which every dialect makes its own.
    message_id text NOT NULL,
    message_number bigint NOT NULL,
    message_offset bigint NOT NULL,
    sender text NOT NULL,
    sender_name text,
    client_id text,
    -- 0, but for a message whose client id its sender had used in that conversation before: how many had it before.
    client_id_uses integer NOT NULL DEFAULT 0,
    body text NOT NULL,
    -- Byte for byte what the client sent: json, not jsonb.
    metadata json,
    extra json,
    sent_at timestamptz NOT NULL,
    PRIMARY KEY (conversation, seq)
);
CREATE UNIQUE INDEX messages_client_id ON parlance.messages (conversation, sender, client_id, client_id_uses)
    WHERE client_id IS NOT NULL;
CREATE INDEX messages_sender ON parlance.messages (sender, sent_at);

-- Messages whose place in the log another message took: what a Redis lost in a failover after it was archived.
CREATE TABLE parlance.superseded_messages (
    LIKE parlance.messages INCLUDING DEFAULTS,
    PRIMARY KEY (conversation, seq, epoch, sent_at)
);

CREATE TABLE parlance.reaction_states (
    conversation text NOT NULL,
    target_seq bigint NOT NULL,
    kind text NOT NULL,
    user_id text NOT NULL,
    epoch bigint NOT NULL,
    -- Of the entry that says so.
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    -- false: it was taken back. The row stays, so that what comes late changes nothing.
    stands boolean NOT NULL,
    PRIMARY KEY (conversation, target_seq, kind, user_id)
);

-- Those that stand.
CREATE VIEW parlance.reactions AS
    SELECT conversation, target_seq, kind, user_id, seq, at AS added_at FROM parlance.reaction_states WHERE stands;

CREATE TABLE parlance.memberships (
    conversation text NOT NULL,
    user_id text NOT NULL,
    joined_epoch bigint,
    joined_seq bigint,
    joined_at timestamptz,
    left_epoch bigint,
    left_seq bigint,
    left_at timestamptz,
    is_member boolean NOT NULL GENERATED ALWAYS AS (
        joined_seq IS NOT NULL AND (left_seq IS NULL OR (joined_epoch, joined_seq) > (left_epoch, left_seq))
    ) STORED,
    PRIMARY KEY (conversation, user_id)
);
CREATE INDEX memberships_user ON parlance.memberships (user_id) WHERE is_member;

CREATE TABLE parlance.receipts (
    conversation text NOT NULL,
    user_id text NOT NULL,
    delivered_seq bigint,
    read_seq bigint,
    -- When read_seq was reached.
    read_at timestamptz,
    PRIMARY KEY (conversation, user_id)
);
