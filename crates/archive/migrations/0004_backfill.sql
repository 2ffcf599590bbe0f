-- What must not come back when the history from before the archive is brought into it.

-- What is older was removed here, as it was kept no longer.
ALTER TABLE parlance.conversations ADD COLUMN removed_before timestamptz;

-- Who was forgotten, and when: only so much as tells whether an id that is seen is that one.
CREATE TABLE parlance.forgotten (
    -- conversation, user
    kind text NOT NULL,
    -- sha256 of the id.
    name bytea NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (kind, name)
);
