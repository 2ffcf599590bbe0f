-- Where a batch is copied to before it is applied; of one connection, and empty between two transactions.
CREATE TEMP TABLE IF NOT EXISTS staged_conversations (
    id text, created_at timestamptz, created_by text, deleted_at timestamptz, epoch bigint
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS staged_messages (
    conversation text, seq bigint, epoch bigint, message_id text, message_number bigint, message_offset bigint,
    sender text, sender_name text, client_id text, body text, metadata json, extra json, sent_at timestamptz,
    sender_username text, sender_picture text, prev_at timestamptz, record bytea
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS staged_entries (
    conversation text, seq bigint, epoch bigint, message_number bigint, message_offset bigint, kind text,
    at timestamptz, prev_at timestamptz, record bytea
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS staged_reactions (
    conversation text, target_seq bigint, kind text, user_id text, epoch bigint, seq bigint, at timestamptz, stands boolean
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS staged_memberships (
    conversation text, user_id text, joined_epoch bigint, joined_seq bigint, joined_at timestamptz,
    left_epoch bigint, left_seq bigint, left_at timestamptz
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS staged_receipts (
    conversation text, user_id text, delivered_seq bigint, read_seq bigint, read_at timestamptz
) ON COMMIT DELETE ROWS;
-- Conversations of the batch of which nothing was kept any more when their life was over, and when that was.
CREATE TEMP TABLE IF NOT EXISTS staged_over (conversation text, until timestamptz) ON COMMIT DELETE ROWS;
