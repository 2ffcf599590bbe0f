// A stock Socket.IO server: what the load generator compares Parlance with. Settings and reasons: ../README.md.
//
// Variables: PORT, REDIS_URL, ADAPTER=redis|streams, JWT_SECRET (tokens are verified when it is set),
// DURABLE=1 (a message is deduplicated, numbered and logged in Redis before anybody hears of it).
// Prints `ready` once it takes connections.
import { createServer } from "node:http";
import { createAdapter as createRedisAdapter } from "@socket.io/redis-adapter";
import { createAdapter as createStreamsAdapter } from "@socket.io/redis-streams-adapter";
import jwt from "jsonwebtoken";
import { createClient } from "redis";
import { Server } from "socket.io";

const { PORT = "3000", HOST = "127.0.0.1", REDIS_URL, ADAPTER = "redis", JWT_SECRET, DURABLE } = process.env;
/** As many entries of a room as Parlance keeps by default, and as long as it remembers a message's id. */
const KEPT = 1000;
const REMEMBERED_SECONDS = 48 * 3600;

const connect = async () => {
  // A command that waits long under load is late, not lost: an adapter does not expect it to be rejected.
  const client = createClient({ url: REDIS_URL, commandOptions: { timeout: undefined } });
  client.on("error", (error) => console.error("redis:", error.message));
  await client.connect();
  return client;
};
const redis = REDIS_URL ? await connect() : undefined;

const adapter = async () => {
  if (!redis) return undefined;
  if (ADAPTER === "redis") return createRedisAdapter(redis, await connect());
  if (ADAPTER === "streams") return createStreamsAdapter(redis);
  throw new Error(`ADAPTER is ${ADAPTER}, which is neither redis nor streams`);
};

const http = createServer();
const io = new Server(http, {
  adapter: await adapter(),
  transports: ["websocket", "polling"],
  perMessageDeflate: false,
  httpCompression: false,
  serveClient: false,
  pingInterval: 25_000,
  pingTimeout: 20_000,
});
// The request that opened a connection is not needed again; kept, it is half of an idle connection's memory.
io.engine.on("connection", (raw) => {
  raw.request = null;
});

if (JWT_SECRET) {
  io.use((socket, next) => {
    jwt.verify(socket.handshake.auth.token, JWT_SECRET, { algorithms: ["HS256"] }, (error, claims) => {
      if (error) return next(new Error("unauthorized"));
      socket.data.user = claims.sub;
      next();
    });
  });
}

/** What Parlance does in one call, as an application on Socket.IO would do it: is it new, which number has it, log it. */
const keep = async (room, id, body) => {
  const isNew = await redis.set(`seen:${room}:${id}`, "1", { NX: true, EX: REMEMBERED_SECONDS });
  if (isNew === null) return undefined;
  const sequence = await redis.incr(`sequence:${room}`);
  await redis.xAdd(`log:${room}`, `${sequence}-0`, { id, body }, {
    TRIM: { strategy: "MAXLEN", strategyModifier: "~", threshold: KEPT },
  });
  return sequence;
};

io.on("connection", (socket) => {
  let sent = 0;
  socket.on("join", async (room, ack) => {
    await socket.join(room);
    ack?.();
  });
  socket.on("leave", (room) => socket.leave(room));
  socket.on("typing", ({ room }) => socket.to(room).emit("typing", { room, user: socket.data.user }));
  socket.on("msg", async ({ room, body, id }, ack) => {
    const at = Date.now();
    id ??= `${socket.id}.${++sent}`;
    if (!DURABLE) {
      io.to(room).emit("msg", { room, body, id, at });
      return ack?.({ id, at });
    }
    try {
      const sequence = await keep(room, id, body);
      if (sequence !== undefined) io.to(room).emit("msg", { room, body, id, at, sequence });
      ack?.({ id, at });
    } catch (error) {
      console.error("keeping a message:", error.message);
      ack?.({ error: "unavailable" });
    }
  });
});

http.listen({ port: Number(PORT), host: HOST, backlog: 4096 }, () => console.log("ready"));
process.once("SIGTERM", () => process.exit(0));
process.once("SIGINT", () => process.exit(0));
