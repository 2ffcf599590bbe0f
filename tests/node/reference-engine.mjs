// The reference server one layer below: engine.io alone, echoing every message at /engine.io/.
//
// The first argument is a JSON object of server options.

import { createServer } from "node:http";
import { Server } from "engine.io";

const { path = "/engine.io", ...options } = JSON.parse(process.argv[2] ?? "{}");
const server = createServer((_request, response) => response.writeHead(404).end());
const engine = new Server(options);
engine.attach(server, { path });
engine.on("connection", (socket) => socket.on("message", (data) => socket.send(data)));

// The test that started this process is gone: so is the reason to run.
process.stdin.on("close", () => process.exit(0)).resume();
server.listen(0, "127.0.0.1", () => console.log(`ready ${server.address().port}`));
