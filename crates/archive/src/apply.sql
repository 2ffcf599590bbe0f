-- From the staging tables into those that stay. Every statement leaves the same when it runs twice, or late.

-- What comes late of a life that is over and forgotten: it waited, or was put aside. In one block, because there hardly ever is any.
INSERT INTO staged_over SELECT s.id, f.at FROM (
    SELECT id FROM staged_conversations UNION SELECT conversation FROM staged_receipts
) AS s CROSS JOIN LATERAL (
    -- By its key, one by one, also where nobody knows how little is staged.
    SELECT at FROM parlance.forgotten WHERE kind = 'ended' AND name = sha256(convert_to(s.id, 'UTF8')) LIMIT 1
) AS f;
DO $$ BEGIN
IF EXISTS (SELECT FROM staged_over) THEN
    DELETE FROM staged_messages s USING staged_over f WHERE s.conversation = f.conversation AND s.sent_at <= f.until;
    DELETE FROM staged_entries s USING staged_over f WHERE s.conversation = f.conversation AND s.at <= f.until;
    DELETE FROM staged_reactions s USING staged_over f WHERE s.conversation = f.conversation AND s.at <= f.until;
    UPDATE staged_memberships s SET joined_epoch = NULL, joined_seq = NULL, joined_at = NULL
        FROM staged_over f WHERE s.conversation = f.conversation AND s.joined_at <= f.until;
    UPDATE staged_memberships s SET left_epoch = NULL, left_seq = NULL, left_at = NULL
        FROM staged_over f WHERE s.conversation = f.conversation AND s.left_at <= f.until;
    UPDATE staged_conversations s SET created_at = NULL, created_by = NULL
        FROM staged_over f WHERE s.id = f.conversation AND s.created_at <= f.until;
    UPDATE staged_conversations s SET deleted_at = NULL
        FROM staged_over f WHERE s.id = f.conversation AND s.deleted_at <= f.until;
    DELETE FROM staged_conversations s USING staged_over f
        WHERE s.id = f.conversation AND num_nonnulls(s.created_at, s.deleted_at) = 0
            AND NOT EXISTS (SELECT FROM staged_messages m WHERE m.conversation = s.id)
            AND NOT EXISTS (SELECT FROM staged_entries e WHERE e.conversation = s.id);
    -- Receipts say nothing of their life: they are of the next one where there is one.
    DELETE FROM staged_receipts s USING staged_over f
        WHERE s.conversation = f.conversation
            AND NOT EXISTS (SELECT FROM staged_conversations c WHERE c.id = s.conversation)
            AND NOT EXISTS (SELECT FROM parlance.conversations c WHERE c.id = s.conversation);
END IF;
END $$;

INSERT INTO parlance.conversations AS c (id, created_at, created_by, deleted_at, epoch)
SELECT id, created_at, created_by, deleted_at, epoch FROM staged_conversations ORDER BY id
ON CONFLICT (id) DO UPDATE SET
    created_by = CASE WHEN c.created_at IS NULL OR excluded.created_at > c.created_at
        THEN excluded.created_by ELSE c.created_by END,
    created_at = greatest(c.created_at, excluded.created_at),
    deleted_at = CASE WHEN excluded.epoch > c.epoch THEN excluded.deleted_at
        WHEN excluded.epoch = c.epoch THEN coalesce(c.deleted_at, excluded.deleted_at) ELSE c.deleted_at END,
    epoch = greatest(c.epoch, excluded.epoch);

-- What stands where a later message of the log is now.
WITH gone AS (
    DELETE FROM parlance.messages m USING staged_messages s
    WHERE m.conversation = s.conversation AND m.seq = s.seq AND (m.epoch, m.sent_at) < (s.epoch, s.sent_at)
    RETURNING m.*
)
INSERT INTO parlance.superseded_messages SELECT * FROM gone ON CONFLICT DO NOTHING;

INSERT INTO parlance.messages (conversation, seq, epoch, message_id, message_number, message_offset,
    sender, sender_name, client_id, client_id_uses, body, metadata, extra, sent_at,
    sender_username, sender_picture, prev_at, record)
SELECT s.conversation, s.seq, s.epoch, s.message_id, s.message_number, s.message_offset,
    s.sender, s.sender_name, s.client_id,
    CASE WHEN s.client_id IS NULL THEN 0 ELSE coalesce(
        (SELECT max(m.client_id_uses) + 1 FROM parlance.messages m WHERE m.conversation = s.conversation
            AND m.sender = s.sender AND m.client_id = s.client_id), 0
    ) + row_number() OVER (PARTITION BY s.conversation, s.sender, s.client_id ORDER BY s.seq) - 1 END,
    s.body, s.metadata, s.extra, s.sent_at, s.sender_username, s.sender_picture, s.prev_at, s.record
FROM staged_messages s
WHERE NOT EXISTS (SELECT FROM parlance.messages m WHERE m.conversation = s.conversation AND m.seq = s.seq)
    AND NOT EXISTS (SELECT FROM staged_messages n WHERE n.conversation = s.conversation AND n.seq = s.seq
        AND (n.epoch, n.sent_at) > (s.epoch, s.sent_at))
ON CONFLICT (conversation, seq) DO NOTHING;

-- And what comes when a later one has its place already.
INSERT INTO parlance.superseded_messages (conversation, seq, epoch, message_id, message_number, message_offset,
    sender, sender_name, client_id, body, metadata, extra, sent_at, sender_username, sender_picture, prev_at, record)
SELECT s.* FROM staged_messages s JOIN parlance.messages m ON m.conversation = s.conversation AND m.seq = s.seq
WHERE (m.epoch, m.sent_at) > (s.epoch, s.sent_at)
ON CONFLICT DO NOTHING;

-- What is no message; of two in one place the later one.
INSERT INTO parlance.entries AS e (conversation, seq, epoch, message_number, message_offset, kind, at, prev_at, record)
SELECT DISTINCT ON (conversation, seq)
    conversation, seq, epoch, message_number, message_offset, kind, at, prev_at, record
FROM staged_entries ORDER BY conversation, seq, epoch DESC, at DESC
ON CONFLICT (conversation, seq) DO UPDATE SET
    epoch = excluded.epoch, message_number = excluded.message_number, message_offset = excluded.message_offset,
    kind = excluded.kind, at = excluded.at, prev_at = excluded.prev_at, record = excluded.record
WHERE (excluded.epoch, excluded.at) > (e.epoch, e.at);

-- Of a message and something else in one place a log has one, the later one.
DELETE FROM parlance.entries e
USING (SELECT conversation, seq FROM staged_messages UNION SELECT conversation, seq FROM staged_entries) s,
    parlance.messages m
WHERE e.conversation = s.conversation AND e.seq = s.seq AND m.conversation = s.conversation AND m.seq = s.seq
    AND (e.epoch, e.at) < (m.epoch, m.sent_at);
WITH gone AS (
    DELETE FROM parlance.messages m
    USING (SELECT conversation, seq FROM staged_messages UNION SELECT conversation, seq FROM staged_entries) s,
        parlance.entries e
    WHERE m.conversation = s.conversation AND m.seq = s.seq AND e.conversation = s.conversation AND e.seq = s.seq
        AND (m.epoch, m.sent_at) < (e.epoch, e.at)
    RETURNING m.*
)
INSERT INTO parlance.superseded_messages SELECT * FROM gone ON CONFLICT DO NOTHING;

INSERT INTO parlance.reaction_states AS r (conversation, target_seq, kind, user_id, epoch, seq, at, stands)
SELECT conversation, target_seq, kind, user_id, epoch, seq, at, stands FROM staged_reactions
ORDER BY conversation, target_seq, kind, user_id
ON CONFLICT (conversation, target_seq, kind, user_id) DO UPDATE SET
    epoch = excluded.epoch, seq = excluded.seq, at = excluded.at, stands = excluded.stands
WHERE (excluded.epoch, excluded.seq, excluded.at) > (r.epoch, r.seq, r.at);

INSERT INTO parlance.memberships (conversation, user_id, joined_epoch, joined_seq, joined_at)
SELECT conversation, user_id, joined_epoch, joined_seq, joined_at FROM staged_memberships
WHERE joined_seq IS NOT NULL ORDER BY conversation, user_id
ON CONFLICT (conversation, user_id) DO UPDATE SET
    joined_epoch = excluded.joined_epoch, joined_seq = excluded.joined_seq, joined_at = excluded.joined_at
WHERE memberships.joined_seq IS NULL OR
    (excluded.joined_epoch, excluded.joined_seq) > (memberships.joined_epoch, memberships.joined_seq);

INSERT INTO parlance.memberships (conversation, user_id, left_epoch, left_seq, left_at)
SELECT conversation, user_id, left_epoch, left_seq, left_at FROM staged_memberships
WHERE left_seq IS NOT NULL ORDER BY conversation, user_id
ON CONFLICT (conversation, user_id) DO UPDATE SET
    left_epoch = excluded.left_epoch, left_seq = excluded.left_seq, left_at = excluded.left_at
WHERE memberships.left_seq IS NULL OR
    (excluded.left_epoch, excluded.left_seq) > (memberships.left_epoch, memberships.left_seq);

-- Whoever is a member when a conversation is deleted is one no longer.
UPDATE parlance.memberships m SET left_epoch = s.epoch, left_seq = s.seq, left_at = s.at
FROM (
    SELECT DISTINCT ON (conversation) conversation, epoch, seq, at FROM staged_entries WHERE kind = 'deleted'
    ORDER BY conversation, epoch DESC, seq DESC
) AS s
WHERE m.conversation = s.conversation AND (m.joined_epoch, m.joined_seq) < (s.epoch, s.seq)
    AND (m.left_seq IS NULL OR (m.left_epoch, m.left_seq) < (s.epoch, s.seq));

INSERT INTO parlance.receipts AS r (conversation, user_id, delivered_seq, read_seq, read_at)
SELECT conversation, user_id, delivered_seq, read_seq, read_at FROM staged_receipts ORDER BY conversation, user_id
ON CONFLICT (conversation, user_id) DO UPDATE SET
    delivered_seq = greatest(r.delivered_seq, excluded.delivered_seq),
    read_at = CASE WHEN r.read_seq IS NULL OR excluded.read_seq > r.read_seq THEN excluded.read_at ELSE r.read_at END,
    read_seq = greatest(r.read_seq, excluded.read_seq);
