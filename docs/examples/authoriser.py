# The authoriser in Python, without packages. SECRET is `authoriser.secret`: SECRET=… PORT=9000 python3 authoriser.py
import hashlib, hmac, json, os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BANNED = {"eve"}

class Authoriser(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        at = self.headers.get("Parlance-Timestamp", "0")
        mac = hmac.new(os.environ["SECRET"].encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        signed = hmac.compare_digest(self.headers.get("Parlance-Signature", ""), f"v1={mac}")
        if not signed or abs(time.time() - int(at)) > 300:
            return self.send_error(401)
        user = json.loads(body)["user"]  # and action, mount, conversation, member, …
        answer = {"allow": False, "reason": "banned"} if user in BANNED else {"allow": True, "ttl_ms": 60000}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Authoriser)
print(f"listening on {server.server_port}", flush=True)
server.serve_forever()
