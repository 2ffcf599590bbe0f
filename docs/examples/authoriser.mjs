// The authoriser in Node, without packages. SECRET is `authoriser.secret`: SECRET=… PORT=9000 node authoriser.mjs
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const banned = new Set(["eve"]);

createServer(async (request, response) => {
  const body = Buffer.concat(await request.toArray());
  const time = request.headers["parlance-timestamp"] ?? "0";
  const mac = createHmac("sha256", process.env.SECRET).update(`${time}.`).update(body).digest("hex");
  const [given, expected] = [request.headers["parlance-signature"] ?? "", `v1=${mac}`].map((text) => Buffer.from(text));
  const signed = given.length === expected.length && timingSafeEqual(given, expected);
  if (!signed || Math.abs(Date.now() / 1000 - time) > 300) return response.writeHead(401).end();
  const { user } = JSON.parse(body); // and action, mount, conversation, member, …
  const answer = banned.has(user) ? { allow: false, reason: "banned" } : { allow: true, ttl_ms: 60000 };
  response.end(JSON.stringify(answer));
}).listen(process.env.PORT, "127.0.0.1", function () {
  console.log(`listening on ${this.address().port}`);
});
