-- What has to be found and remembered to remove what is kept no longer.

-- When something that is done now and then was done last, by whichever node.
CREATE TABLE parlance.chores (
    name text PRIMARY KEY,
    done_at timestamptz NOT NULL
);

CREATE INDEX conversations_deleted ON parlance.conversations (id) WHERE deleted_at IS NOT NULL;
