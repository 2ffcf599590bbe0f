// A backend for webhooks in Node, without packages. SECRET is `webhooks.secret`: SECRET=… PORT=9001 node webhooks.mjs
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const known = new Set(); // of your database: an event may come again, with the id it had

createServer(async (request, response) => {
  const body = Buffer.concat(await request.toArray());
  const time = request.headers["parlance-timestamp"] ?? "0";
  const mac = createHmac("sha256", process.env.SECRET).update(`${time}.`).update(body).digest("hex");
  const [given, expected] = [request.headers["parlance-signature"] ?? "", `v1=${mac}`].map((text) => Buffer.from(text));
  const signed = given.length === expected.length && timingSafeEqual(given, expected);
  if (!signed || Math.abs(Date.now() / 1000 - time) > 300) return response.writeHead(401).end();
  for (const { id, type, data } of JSON.parse(body).events) {
    if (known.size < known.add(id).size) console.log(`${type} ${data.conversationId ?? data.userId}`);
  }
  response.end();
}).listen(process.env.PORT, "127.0.0.1", function () {
  console.log(`listening on ${this.address().port}`);
});
