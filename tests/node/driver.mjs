// Stock socket.io-client sockets, opened and used on command.
//
// Commands come in and reports go out as lines of JSON; the Rust side is tests/src/stock.rs. Must not know: any
// dialect, and nothing of the protocol that the stock client does not do by itself.

import { Agent } from "node:http";
import { io } from "socket.io-client";
import { commands, pack, say, unpack } from "./lines.mjs";

const sockets = new Map();

const operations = {
  connect: ({ id, url, options = {}, via }) => {
    const socket = via ? namespace(via, url, options) : connection(url, options);
    sockets.set(id, socket);
    watch(id, socket);
    socket.connect();
  },
  emit: ({ id, event, args = [], ack = false, tag, timeout }) => {
    const socket = sockets.get(id);
    const values = args.map(unpack);
    if (!ack) {
      socket.emit(event, ...values);
    } else if (timeout === undefined) {
      socket.emit(event, ...values, (...answer) => say({ id, on: "ack", tag, args: answer.map(pack) }));
    } else {
      socket.timeout(timeout).emit(event, ...values, (error, ...answer) => {
        say(error ? { id, on: "ack", tag, error: String(error.message) } : { id, on: "ack", tag, args: answer.map(pack) });
      });
    }
  },
  answer: ({ id, ack, args = [] }) => {
    const answers = sockets.get(id).unanswered;
    answers.get(ack)(...args.map(unpack));
    answers.delete(ack);
  },
  disconnect: ({ id }) => sockets.get(id).disconnect(),
  reconnect: ({ id }) => sockets.get(id).connect(),
  drop: ({ id, how = "cut" }) => {
    const { engine } = sockets.get(id).io;
    if (how === "close") {
      engine.close();
    } else if (engine.transport.name === "websocket") {
      // There is none any more when it broke off by itself.
      engine.transport.ws?.terminate();
    } else {
      cutPolling(engine.transport, engine.opts.agent);
    }
  },
  pause: ({ id }) => {
    const { transport } = sockets.get(id).io.engine;
    if (transport.name === "websocket") {
      transport.ws.pause();
    } else {
      pausePolling(transport);
    }
  },
  resume: ({ id }) => {
    const { transport } = sockets.get(id).io.engine;
    if (transport.name === "websocket") {
      transport.ws.resume();
    } else {
      transport.resumePolling?.();
    }
  },
};

commands((command) => {
  const operation = operations[command.op];
  if (!operation) {
    throw new Error(`no such operation: ${command.op}`);
  }
  operation(command);
});

// A connection of its own. Its agent is like the one that Node would use, but its sockets can be found (see `drop`).
function connection(url, options) {
  return io(url, { forceNew: true, autoConnect: false, agent: new Agent({ keepAlive: true }), ...options });
}

// A further namespace over the connection of another socket.
function namespace(via, url, options) {
  return sockets.get(via).io.socket(new URL(url).pathname, options);
}

function watch(id, socket) {
  const manager = socket.io;
  socket.unanswered = new Map();
  let asked = 0;
  socket.on("connect", () => {
    const transport = manager.engine.transport.name;
    say({ id, on: "connect", sid: socket.id, recovered: Boolean(socket.recovered), transport });
  });
  socket.onAny((name, ...args) => {
    const report = { id, on: "event", name };
    if (typeof args.at(-1) === "function") {
      asked += 1;
      report.ack = asked;
      socket.unanswered.set(asked, args.pop());
    }
    say({ ...report, args: args.map(pack) });
  });
  socket.on("disconnect", (reason) => say({ id, on: "disconnect", reason }));
  socket.on("connect_error", (error) => {
    // For what the server refused over HTTP, `description` is the status and `context` the request.
    const status = typeof error.description === "number" ? error.description : undefined;
    const body = error.context?.responseText;
    say({ id, on: "connect_error", message: error.message, data: pack(error.data), status, body });
  });
  manager.on("reconnect_attempt", (attempt) => say({ id, on: "reconnect_attempt", attempt }));
  const watchEngine = () => {
    manager.engine.on("upgrade", (transport) => say({ id, on: "upgrade", transport: transport.name }));
  };
  manager.on("open", watchEngine);
  if (manager.engine?.readyState === "open") {
    watchEngine();
  }
}

// What a network does to a polling client: its requests break off, and nothing tells the server why. The state is
// changed first, or the client would say goodbye with a close packet. The error has a code of its own, because the
// client's HTTP library repeats a request after a plain reset.
function cutPolling(transport, agent) {
  transport.readyState = "closed";
  const open = Object.values(agent.sockets).flat();
  for (const socket of open) {
    socket.destroy(Object.assign(new Error("cut by the test"), { code: "ECUT" }));
  }
  if (open.length === 0) {
    transport.onError("xhr poll error");
  }
}

// The poll that is out is still answered; then the client asks no more until it is resumed.
function pausePolling(transport) {
  let waiting = false;
  transport._poll = () => {
    waiting = true;
  };
  transport.resumePolling = () => {
    delete transport._poll;
    delete transport.resumePolling;
    if (waiting) {
      transport._poll();
    }
  };
}
