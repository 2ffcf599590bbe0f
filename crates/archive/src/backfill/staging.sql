-- Members as they stand, of whom the log may not tell any more when they came.
CREATE TEMP TABLE IF NOT EXISTS staged_standing (
    conversation text, user_id text, joined_epoch bigint, joined_seq bigint, after timestamptz
) ON COMMIT DELETE ROWS;
