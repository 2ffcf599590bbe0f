"""Stock python-socketio clients, opened and used on command.

The commands and reports are those of tests/node/driver.mjs, as far as this library can follow them: it has no
recovery, no shared connections, and it answers the server's own questions by itself. Must not know: any dialect.
"""

import base64
import json
import os
import socket
import sys
import threading
import time
import traceback
from urllib.parse import urlencode, urlsplit

import requests
import socketio
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

# How long a client may take to get from its `connect` event to the state in which it can be disconnected.
SETTLE = 10

output = threading.Lock()


def say(report):
    with output:
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()


def pack(value):
    if isinstance(value, (bytes, bytearray)):
        return {"$binary": base64.b64encode(value).decode()}
    if isinstance(value, (list, tuple)):
        return [pack(inner) for inner in value]
    if isinstance(value, dict):
        return {key: pack(inner) for key, inner in value.items()}
    return value


def unpack(value):
    if isinstance(value, list):
        return [unpack(inner) for inner in value]
    if isinstance(value, dict):
        if isinstance(value.get("$binary"), str):
            return base64.b64decode(value["$binary"])
        return {key: unpack(inner) for key, inner in value.items()}
    return value


class CuttableAdapter(HTTPAdapter):
    """Remembers the sockets of its connections, and opens none while it is cut."""

    is_cut = False

    def init_poolmanager(self, *args, **kwargs):
        super().init_poolmanager(*args, **kwargs)
        adapter = self
        opened = self.opened = []

        class Connection(HTTPConnection):
            def _new_conn(self):
                connected = super()._new_conn()
                # In this order: whatever `cut` does not find here finds itself cut.
                opened.append(connected)
                if adapter.is_cut:
                    raise ConnectionResetError("cut by the test")
                return connected

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection

        self.poolmanager.pool_classes_by_scheme = {**self.poolmanager.pool_classes_by_scheme, "http": Pool}

    def cut(self):
        self.is_cut = True
        for opened in list(self.opened):
            close(opened)


class CuttableSession(requests.Session):
    """An HTTP session whose requests can be broken off, as a network does."""

    def __init__(self):
        super().__init__()
        self.adapter = CuttableAdapter()
        self.mount("http://", self.adapter)
        self.refusal = {}

    def request(self, method, *args, **kwargs):
        if method != "GET":
            return super().request(method, *args, **kwargs)
        try:
            if not self.adapter.is_cut:
                answer = super().request(method, *args, **kwargs)
            if self.adapter.is_cut:
                raise requests.exceptions.ConnectionError("cut by the test")
        finally:
            # One poll that fails is enough: the one that was out, or else the next.
            self.adapter.is_cut = False
        self.refusal = {} if answer.ok else {"status": answer.status_code, "body": answer.text}
        return answer


def close(opened):
    try:
        opened.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # It was closed already.


class Stock:
    """A client with its one namespace."""

    def __init__(self, number, url, options):
        self.id = number
        parts = urlsplit(url)
        self.namespace = parts.path or "/"
        self.url = f"{parts.scheme}://{parts.netloc}"
        if options.get("query"):
            self.url += "?" + urlencode(options["query"])
        self.options = options
        self.session = CuttableSession()
        self.client = socketio.Client(
            reconnection=options.get("reconnection", True),
            reconnection_delay=options.get("reconnectionDelay", 1000) / 1000,
            reconnection_delay_max=options.get("reconnectionDelayMax", 5000) / 1000,
            randomization_factor=0,
            http_session=self.session,
            handle_sigint=False,
        )
        self.in_order()
        self.client.on("connect", self.on_connect, namespace=self.namespace)
        self.client.on("disconnect", self.on_disconnect, namespace=self.namespace)
        self.client.on("connect_error", self.on_connect_error, namespace=self.namespace)
        self.client.on("*", self.on_event, namespace=self.namespace)

    def in_order(self):
        """The library handles each message on a thread of its own, so that two may overtake each other: no test
        could then say anything of the order in which the server sent them."""
        trigger = self.client.eio._trigger_event

        def in_turn(event, *args, **kwargs):
            return trigger(event, *args, **{**kwargs, "run_async": False})

        self.client.eio._trigger_event = in_turn

    def connect(self):
        threading.Thread(target=self.connecting, daemon=True).start()

    def connecting(self):
        try:
            self.client.connect(
                self.url,
                headers=dict(self.options.get("extraHeaders", {})),
                auth=self.options.get("auth"),
                transports=self.options.get("transports"),
                namespaces=[self.namespace],
                socketio_path=self.options.get("path", "/socket.io").strip("/"),
                wait_timeout=SETTLE,
                retry=self.options.get("reconnection", True),
            )
        except socketio.exceptions.ConnectionError as error:
            # It has been reported as `connect_error`.
            print(f"{self.id}: {error}", file=sys.stderr)

    def on_connect(self):
        sid = self.client.get_sid(self.namespace)
        self.report("connect", sid=sid, recovered=False, transport=self.client.transport())

    def on_disconnect(self, reason):
        self.report("disconnect", reason=str(reason))

    def on_connect_error(self, error=None):
        said = error if isinstance(error, dict) else {"message": str(error)}
        message = str(said.get("message", error))
        self.report("connect_error", message=message, data=pack(said.get("data")), **self.session.refusal)

    def on_event(self, name, *args):
        self.report("event", name=name, args=pack(args))

    def emit(self, event, args, tag):
        def acknowledged(*answer):
            self.report("ack", tag=tag, args=pack(answer))

        callback = acknowledged if tag is not None else None
        self.client.emit(event, tuple(unpack(args)), namespace=self.namespace, callback=callback)

    def disconnect(self):
        self.settle()
        self.write_out()
        # The library waits for its threads to end, and so for the poll that is out.
        threading.Thread(target=self.client.disconnect, daemon=True).start()

    def drop(self):
        self.settle()
        if self.client.transport() == "websocket":
            close(self.client.eio.ws.sock)
        else:
            self.session.adapter.cut()

    def settle(self):
        until = time.monotonic() + SETTLE
        while not self.client.connected and time.monotonic() < until:
            time.sleep(0.01)

    def write_out(self):
        """The library ends its writing as soon as it disconnects: while a POST of it is still unanswered, its goodbye
        would stay in the queue, and the server would hear of it from the missing heartbeat only."""
        until = time.monotonic() + SETTLE
        while self.writing() and time.monotonic() < until:
            time.sleep(0.01)

    def writing(self):
        engine = self.client.eio
        # Whoever takes from the queue waits there for more once everything is written and answered.
        return engine.state == "connected" and not engine.queue.not_empty._waiters

    def report(self, kind, **more):
        say({"id": self.id, "on": kind, **more})


clients = {}


def obey(command):
    operation, number = command["op"], command["id"]
    if operation == "connect":
        if "via" in command:
            raise NotImplementedError("a connection shared by namespaces")
        clients[number] = Stock(number, command["url"], command.get("options", {}))
        clients[number].connect()
    elif operation == "emit":
        clients[number].emit(command["event"], command.get("args", []), command.get("tag"))
    elif operation == "disconnect":
        clients[number].disconnect()
    elif operation == "reconnect":
        clients[number].connect()
    elif operation == "drop":
        if command.get("how", "cut") != "cut":
            raise NotImplementedError("after closing its connection itself the library does not connect again")
        clients[number].drop()
    else:
        raise NotImplementedError(operation)


def main():
    try:
        for line in sys.stdin:
            obey(json.loads(line))
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    # The test that started this process is gone: so is the reason to run, and the library's threads with it.
    os._exit(0)


main()
