-- What the application writes down to be published; rows that are published are gone.

CREATE TABLE parlance.outbox (
    -- The order in which it is published.
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Repeated with the same one an event is published once.
    key text NOT NULL DEFAULT gen_random_uuid()::text CHECK (key ~ '^[A-Za-z0-9_:.@-]{1,128}$'),
    -- Which call of the server API it is.
    call text NOT NULL
        CHECK (call IN ('message', 'publish', 'conversation', 'change', 'delete', 'disconnect', 'revoke')),
    -- The id that the call's address has, of those that have one.
    target text,
    -- Byte for byte what the call's body would be: json, not jsonb.
    body json,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp() CHECK (isfinite(created_at)),
    -- Since when it lies aside, with which code, and why; NULL: it does not.
    refused_at timestamptz,
    refusal_code text,
    refusal text,
    -- How often it was refused.
    refusals integer NOT NULL DEFAULT 0,
    CHECK ((target IS NOT NULL) = (call IN ('message', 'change', 'delete', 'disconnect')))
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- What lies aside has the lowest numbers, and nobody has to read past it.
CREATE INDEX outbox_waiting ON parlance.outbox (id) WHERE refused_at IS NULL;
CREATE INDEX outbox_aside ON parlance.outbox (id) WHERE refused_at IS NOT NULL;
