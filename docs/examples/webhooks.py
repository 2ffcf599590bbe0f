# A backend for webhooks in Python, without packages. SECRET is `webhooks.secret`: SECRET=… PORT=9001 python3 webhooks.py
import hashlib, hmac, json, os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KNOWN = set()  # of your database: an event may come again, with the id it had

class Webhooks(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        at = self.headers.get("Parlance-Timestamp", "0")
        mac = hmac.new(os.environ["SECRET"].encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        signed = hmac.compare_digest(self.headers.get("Parlance-Signature", ""), f"v1={mac}")
        if not signed or abs(time.time() - int(at)) > 300:
            return self.send_error(401)
        for event in json.loads(body)["events"]:
            if event["id"] not in KNOWN:
                KNOWN.add(event["id"])
                data = event["data"]
                print(event["type"], data.get("conversationId", data.get("userId")), flush=True)
        self.send_response(200)
        self.end_headers()

server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Webhooks)
print(f"listening on {server.server_port}", flush=True)
server.serve_forever()
