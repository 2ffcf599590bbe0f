-- Members as they stand, of whom the log may not tell any more when they came.
CREATE TEMP TABLE IF NOT EXISTS staged_standing (
    conversation text, user_id text, joined_epoch bigint, joined_seq bigint, life bigint, after timestamptz
) ON COMMIT DELETE ROWS;
-- Messages whose client id was used, in the log, at another turn than was thought.
CREATE TEMP TABLE IF NOT EXISTS staged_uses (conversation text, seq bigint, uses integer) ON COMMIT DELETE ROWS;
