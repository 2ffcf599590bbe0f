// The reference server that Parlance is compared with: socket.io itself.
//
// Behaves as the server of the protocol's own test suite: it says what it was told at CONNECT (`auth`), echoes
// `message` as `message-back` and acknowledges `message-with-ack` with what it got. Besides that, what the tests of
// the stock clients need: `ask` (the server asks for an acknowledgement and tells the answer), `join`/`publish`
// (a room), `disconnect-me`, and a namespace that refuses everyone (`/refused`).
//
// The first argument is a JSON object of server options.

import { createServer } from "node:http";
import { Server } from "socket.io";

const options = JSON.parse(process.argv[2] ?? "{}");
const server = createServer((_request, response) => response.writeHead(404).end());
const io = new Server(server, options);

function serve(socket) {
  // Outside the recovery, which would repeat it: a recovered socket is not greeted again.
  if (!socket.recovered) {
    socket.emit("auth", socket.handshake.auth);
  }
  socket.on("message", (...args) => socket.emit("message-back", ...args));
  socket.on("message-with-ack", (...args) => {
    const acknowledge = args.pop();
    acknowledge(...args);
  });
  socket.on("ask", (...args) => socket.emit("question", ...args, (...answer) => socket.emit("answered", ...answer)));
  socket.on("join", (room, acknowledge) => {
    socket.join(room);
    acknowledge();
  });
  socket.on("publish", (room, ...args) => {
    const acknowledge = typeof args.at(-1) === "function" ? args.pop() : () => {};
    socket.nsp.to(room).emit("published", ...args);
    acknowledge();
  });
  socket.on("disconnect-me", () => socket.disconnect());
}

io.on("connection", serve);
io.of("/custom").on("connection", serve);
io.of("/refused").use((_socket, next) => {
  const error = new Error("not authorized");
  error.data = { code: 401 };
  next(error);
});

// The test that started this process is gone: so is the reason to run.
process.stdin.on("close", () => process.exit(0)).resume();
server.listen(0, "127.0.0.1", () => console.log(`ready ${server.address().port}`));
