-- After apply.sql, where what is written is older than what is there already.

-- How often a client id had been used before: in the order of the log, not in that of writing.
WITH used AS (
    SELECT m.conversation, m.sender, m.client_id, m.seq, m.client_id_uses,
        row_number() OVER (PARTITION BY m.conversation, m.sender, m.client_id ORDER BY m.seq) AS place,
        row_number() OVER (PARTITION BY m.conversation, m.sender, m.client_id ORDER BY m.client_id_uses) AS turn
    FROM parlance.messages m JOIN (
        SELECT DISTINCT conversation, sender, client_id FROM staged_messages WHERE client_id IS NOT NULL
    ) AS s USING (conversation, sender, client_id)
)
INSERT INTO staged_uses SELECT a.conversation, a.seq, b.client_id_uses
FROM used a JOIN used b USING (conversation, sender, client_id) WHERE a.place = b.turn AND a.client_id_uses <> b.client_id_uses;
-- In two steps: no two have the same at any moment.
UPDATE parlance.messages m SET client_id_uses = -1 - u.uses FROM staged_uses u
WHERE m.conversation = u.conversation AND m.seq = u.seq;
UPDATE parlance.messages m SET client_id_uses = u.uses FROM staged_uses u
WHERE m.conversation = u.conversation AND m.seq = u.seq;

-- Members as they stand; whatever is known of when they came is better.
INSERT INTO parlance.memberships AS m (conversation, user_id, joined_epoch, joined_seq, joined_at)
SELECT s.conversation, s.user_id, coalesce(e.epoch, s.joined_epoch), s.joined_seq, e.at
FROM staged_standing s LEFT JOIN parlance.entries e
    ON e.conversation = s.conversation AND e.seq = s.joined_seq AND e.kind = 'members'
        -- What an earlier life had in that place says nothing of this one.
        AND e.epoch >= s.life
-- Nor are there members of a conversation that went.
WHERE (s.after IS NULL OR e.at > s.after)
    AND EXISTS (SELECT FROM parlance.conversations c WHERE c.id = s.conversation)
ORDER BY s.conversation, s.user_id
ON CONFLICT (conversation, user_id) DO UPDATE SET
    joined_epoch = excluded.joined_epoch, joined_seq = excluded.joined_seq, joined_at = excluded.joined_at
WHERE m.joined_seq IS NULL OR m.joined_seq < excluded.joined_seq OR
    (NOT m.is_member AND (excluded.joined_epoch, excluded.joined_seq) > (m.left_epoch, m.left_seq));

-- And of none that was deleted since anybody is one.
UPDATE parlance.memberships m SET left_epoch = e.epoch, left_seq = e.seq, left_at = e.at
FROM (SELECT conversation, user_id FROM staged_memberships UNION SELECT conversation, user_id FROM staged_standing) AS s,
    LATERAL (
        -- In the words of the index. Where an engine lost everything, a later life has smaller places.
        SELECT epoch, seq, at FROM parlance.entries
        WHERE conversation = s.conversation AND kind IN ('deleted', 'lost') AND kind = 'deleted'
        ORDER BY epoch DESC, seq DESC LIMIT 1
    ) AS e
WHERE m.conversation = s.conversation AND m.user_id = s.user_id AND (m.joined_epoch, m.joined_seq) < (e.epoch, e.seq)
    AND (m.left_seq IS NULL OR (m.left_epoch, m.left_seq) < (e.epoch, e.seq));
