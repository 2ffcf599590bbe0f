-- Conversations whose life is over and of which nothing is kept any more: what comes late of it is not written.

CREATE TABLE parlance.forgotten (
    conversation text PRIMARY KEY,
    -- It was over then. What is later is of another life.
    until timestamptz NOT NULL
);
