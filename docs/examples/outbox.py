# An order and the message about it, or neither: in one transaction. Without packages: psql writes it.
# python3 outbox.py postgresql://app@db.example/app order-17 team-7 alice "It's on its way"
import json, subprocess, sys

url, order, conversation, sender, text = sys.argv[1:]
body = json.dumps({"senderId": sender, "body": text, "metadata": {"order": order}})
# psql quotes what :'name' stands for.
SQL = """
BEGIN;
CREATE TABLE IF NOT EXISTS orders (id text PRIMARY KEY, shipped_at timestamptz);
INSERT INTO orders VALUES (:'order', now());
INSERT INTO parlance.outbox (call, target, body) VALUES ('message', :'conversation', :'body');
COMMIT;
"""
names = {"order": order, "conversation": conversation, "body": body}
values = [word for name, value in names.items() for word in ("-v", f"{name}={value}")]
subprocess.run(["psql", "-qX", "-v", "ON_ERROR_STOP=1", *values, url], input=SQL, text=True, check=True)
