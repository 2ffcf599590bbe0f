-- What must not come back: when it comes late, or with the history from before the archive.

-- What is older was removed here, as it was kept no longer.
ALTER TABLE parlance.conversations ADD COLUMN removed_before timestamptz;

-- Who was forgotten, and when; and conversations that were over, and went altogether: when they ended. Only so much as tells
-- whether an id that is seen is that one.
CREATE TABLE parlance.forgotten (
    -- conversation, user, ended
    kind text NOT NULL,
    -- sha256 of the id.
    name bytea NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (kind, name)
);
