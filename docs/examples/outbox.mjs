// Writes an event to the stream, in Node and without packages: a command of Redis is a list of texts with their lengths.
// node outbox.mjs redis.example:6379 order-17 team-7 alice "It's on its way"
import { connect } from "node:net";

const [address, order, conversation, sender, text] = process.argv.slice(2);
const [host, port] = address.split(":");
const body = JSON.stringify({ senderId: sender, body: text, metadata: { order } });
// With a key of its own it is one event, however often this is run.
const words = ["XADD", "outbox", "*", "key", order, "call", "message", "target", conversation, "body", body];
const command = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join("");
const socket = connect({ host, port: Number(port) }, () => socket.write(`*${words.length}\r\n${command}`));
socket.once("data", (answer) => {
  if (answer[0] !== "$".charCodeAt(0)) throw new Error(answer.toString());
  socket.end();
});
