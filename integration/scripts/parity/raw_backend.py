"""A gRPC backend that does on the wire whatever the call asks for.

A call carries its script as JSON in the metadata key `x-script`: a list of steps, each a list of a word and its
arguments (class Steps has them all). What the backend received is read, and its `go` steps are released, over a control
port: one JSON object a line each way (class Control).

At start it prints one JSON line: {"control": ADDRESS, "services": {SERVICE: ADDRESS}}. The services differ in how
their connections are set up (LISTENERS); three more cannot be reached: one refuses connections, one never says a word,
and one has a name that does not resolve.
"""

import asyncio
import base64
import json
import socket
import sys

from http2_peer import LARGEST_WINDOW, MAX_CONCURRENT, MAX_HEADER_LIST, Gone, Http2Peer

OK_HEADERS = [[":status", "200"], ["content-type", "application/grpc"]]
DEFAULT_SCRIPT = [["await", "half-close"], ["headers"], ["message", "ok"], ["trailers", 0]]
LISTENERS = {
    "raw.Raw": {},
    "raw.Other": {},
    "raw.OneAtATime": {MAX_CONCURRENT: 1},
}


def message(payload, compressed=0):
    return bytes([compressed]) + len(payload).to_bytes(4, "big") + payload


class Call:
    """One stream and the script that it runs."""

    def __init__(self, backend, stream, connection):
        self.backend = backend
        self.stream = stream
        self.connection = connection
        metadata = dict(stream.headers)
        self.key = metadata.get("x-key", "")
        self.service = metadata.get(":path", "").rpartition("/")[0].lstrip("/")
        self.script = json.loads(metadata["x-script"]) if "x-script" in metadata else DEFAULT_SCRIPT
        self.steps = []
        self.done = False
        self.over_limit = False

    async def run(self):
        try:
            await Steps(self).run(self.script)
        except Gone:
            self.steps.append("gone")
        except ConnectionError:
            self.steps.append("lost")
        self.done = True
        self.backend.finished(self)

    def reached(self, condition):
        """Whether a condition of a `wait` holds: a word, or a word and a number."""
        word, *arguments = condition if isinstance(condition, list) else [condition]
        return {
            "open": lambda: True,
            "done": lambda: self.done,
            "half-close": lambda: self.stream.ended,
            "rst": lambda: self.stream.reset is not None,
            "gone": lambda: self.stream.gone,
            "messages": lambda: self.stream.messages >= arguments[0],
            "bytes": lambda: self.stream.data_bytes >= arguments[0],
            "sent": lambda: self.stream.sent_bytes >= arguments[0],
            "step": lambda: arguments[0] in self.steps,
        }[word]()

    def report(self):
        stream = self.stream
        return {
            "connection": self.connection,
            "stream": stream.number,
            "headers": stream.headers,
            "events": stream.events,
            "data": bytes(stream.data).decode("latin-1"),
            "data_bytes": stream.data_bytes,
            "messages": stream.messages,
            "half_closed": stream.ended,
            "rst": stream.reset,
            "lost": stream.peer.lost,
            "sent_bytes": stream.sent_bytes,
            "steps": self.steps,
            "over_limit": self.over_limit,
        }


class Steps:
    """The words of a script: each method is one."""

    def __init__(self, call):
        self.call = call
        self.stream = call.stream
        self.peer = call.stream.peer
        self.background = []

    async def run(self, script):
        for word, *arguments in script:
            await getattr(self, word.replace("-", "_"))(*arguments)
            self.call.steps.append(word)

    async def headers(self, extra=(), end=False):
        """Response headers: the usual two and some."""
        self.peer.headers(self.stream.number, OK_HEADERS + list(extra), end)

    async def raw_headers(self, fields, end=False):
        """A header block exactly as given."""
        self.peer.headers(self.stream.number, fields, end)

    async def big_headers(self, size):
        """Response headers with 1 KB values that add up to about `size` bytes."""
        await self.headers([[f"x-big-{i}", chr(97 + i % 26) * 1000] for i in range(size // 1000)])

    async def trailers(self, status, text=None, extra=()):
        """Trailers; `text` goes to grpc-message as it is."""
        fields = [["grpc-status", str(status)]] + ([["grpc-message", text]] if text is not None else [])
        self.peer.headers(self.stream.number, fields + list(extra), True)

    async def trailers_only(self, status, text=None, extra=()):
        """A response of one header block."""
        fields = OK_HEADERS + [["grpc-status", str(status)]] + ([["grpc-message", text]] if text is not None else [])
        self.peer.headers(self.stream.number, fields + list(extra), True)

    async def message(self, text, count=1):
        """The same message `count` times, each a DATA frame of its own."""
        for _ in range(count):
            await self.peer.data(self.stream, message(text.encode()))

    async def burst(self, count, size):
        """Messages that go out together, each in a DATA frame of its own."""
        await self.peer.shredded(self.stream, message(b"b" * size) * count, size + 5)

    async def large(self, size):
        """One message of `size` bytes, in frames as large as may be."""
        await self.peer.data(self.stream, message(b"l" * size))

    async def shredded(self, size, chunk):
        """One message of `size` bytes in DATA frames of `chunk` bytes."""
        await self.peer.shredded(self.stream, message(b"s" * size), chunk)

    async def data(self, text, end=False, padding=0):
        """One DATA frame with these bytes (base64)."""
        await self.peer.data(self.stream, base64.b64decode(text), end, padding)

    async def flood(self, size):
        """Messages without end, as long as the stream lives."""
        payload = message(b"f" * size)
        while True:
            await self.peer.data(self.stream, payload)

    async def meanwhile(self, script):
        """Starts another script, which ends with the next `rst`."""
        self.background.append(asyncio.ensure_future(self.run(script)))

    async def echo(self):
        """Every DATA byte back, until the client half-closes."""
        sent = 0
        while True:
            await self.stream.until(lambda: len(self.stream.data) > sent or self.stream.ended)
            piece = bytes(self.stream.data[sent:])
            if piece:
                sent += len(piece)
                await self.peer.data(self.stream, piece)
            elif self.stream.ended:
                return

    async def rst(self, code):
        for task in self.background:
            task.cancel()
        self.peer.rst(self.stream.number, code)

    async def close(self):
        """Ends the TCP connection with FIN."""
        self.peer.close()

    async def abort(self):
        """Ends the TCP connection with RST."""
        self.peer.abort()

    async def goaway(self, where, code=0):
        """GOAWAY: below this stream, at this stream, or for all that could be (a drain's first)."""
        number = self.stream.number
        last = {"below": max(number - 2, 0), "this": number, "all": LARGEST_WINDOW}[where]
        self.peer.send_goaway(last, code)

    async def settings(self, values):
        """Another SETTINGS frame; waits until it is acknowledged."""
        before = self.peer.settings_acks
        self.peer.send_settings({int(name): value for name, value in values.items()})
        await self.peer.signal.until(lambda: self.peer.settings_acks > before or self.peer.lost)
        self.peer.settings.update({int(name): value for name, value in values.items()})

    async def stop_reading(self):
        """No more WINDOW_UPDATE for this stream."""
        self.stream.reading = False

    async def forget_data(self):
        """Counts the request's bytes without keeping them."""
        self.stream.keep_data = False

    async def cork(self):
        """Holds frames until `uncork`, so that they leave in one piece."""
        self.peer.cork()

    async def uncork(self):
        self.peer.uncork()

    async def pause(self, milliseconds):
        """Lets what was sent arrive by itself."""
        await asyncio.sleep(milliseconds / 1000)

    async def go(self):
        """Waits for a `go` with this call's key."""
        backend, key = self.call.backend, self.call.key
        self.call.steps.append("at go")
        await backend.gates.setdefault(key, asyncio.Semaphore(0)).acquire()

    async def wait(self, word, number=0):
        """Waits for `half-close`, `rst`, or a number of `messages` or `bytes`."""
        stream = self.stream
        if word == "rst":
            await stream.signal.until(lambda: stream.gone)
        else:
            await stream.until(lambda: self.call.reached([word, number]))

    async def attempts(self, *scripts):
        """The first call of this key runs the first script, the next one the next, and so on; the last one repeats."""
        mine = self.call.backend.calls_of(self.call.key).index(self.call)
        await self.run(scripts[min(mine, len(scripts) - 1)])


setattr(Steps, "await", Steps.wait)


class Backend:
    """All listeners and all calls."""

    def __init__(self):
        self.calls = {}
        self.gates = {}
        self.connections = 0
        self.open_calls = {}
        self.tasks = set()

    async def accept(self, reader, writer, settings):
        self.connections += 1
        connection = self.connections
        peer = Http2Peer(
            reader,
            writer,
            {**settings, MAX_HEADER_LIST: 2**20},
            on_stream=lambda stream: self.open(stream, connection),
        )
        await peer.start()

    def open(self, stream, connection):
        call = Call(self, stream, connection)
        call.over_limit = self.is_over_limit(stream.peer)
        self.calls.setdefault(call.key, []).append(call)
        self.open_calls.setdefault(stream.peer, set()).add(call)
        task = asyncio.ensure_future(call.run())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def calls_of(self, key):
        return self.calls.get(key, [])

    def finished(self, call):
        self.open_calls[call.stream.peer].discard(call)

    def is_over_limit(self, peer):
        limit = peer.settings.get(MAX_CONCURRENT)
        if limit is None or not peer.settings_acks:
            return False
        return len(self.open_calls.get(peer, ())) >= limit


class Control:
    """The control port.

    {"do": "go", "key": K}                                      releases one `go` step of the calls with this key
    {"do": "wait", "key": K, "for": CONDITION, "count": N}      answers when N calls with this key have reached it
    {"do": "report", "key": K}                                  answers at once
    The last two answer with {"calls": [...]} (Call.report), in the order in which the calls arrived.
    """

    def __init__(self, backend):
        self.backend = backend

    async def serve(self, reader, writer):
        while line := await reader.readline():
            request = json.loads(line)
            answer = await getattr(self, request.pop("do"))(**request)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    def mine(self, key):
        return self.backend.calls_of(key)

    async def go(self, key, count=1):
        gate = self.backend.gates.setdefault(key, asyncio.Semaphore(0))
        for _ in range(count):
            gate.release()
        return {}

    async def report(self, key):
        return {"calls": [call.report() for call in self.mine(key)]}

    async def wait(self, key, count=1, timeout=20, **rest):
        condition = rest["for"]
        reached = lambda: sum(call.reached(condition) for call in self.mine(key)) >= count
        end = asyncio.get_running_loop().time() + timeout
        # Looked at now and then instead of at every event: a burst has thousands of events and of calls.
        while not reached():
            if asyncio.get_running_loop().time() > end:
                return {"error": f"after {timeout} s not {count} calls with {condition}", **await self.report(key)}
            await asyncio.sleep(0.001 if count == 1 else 0.01)
        return await self.report(key)


async def main():
    backend = Backend()
    # Never listens, but holds its port, so that nobody else answers there.
    refused = socket.socket()
    refused.bind(("127.0.0.1", 0))
    silent = await asyncio.start_server(lambda reader, writer: reader.read(), "127.0.0.1", 0)
    services = {
        "raw.Refused": "{}:{}".format(*refused.getsockname()),
        "raw.Silent": address_of(silent),
        "raw.Unresolvable": "nothing.invalid:50051",
    }
    for service, settings in LISTENERS.items():
        accept = lambda reader, writer, settings=settings: backend.accept(reader, writer, dict(settings))
        services[service] = address_of(await asyncio.start_server(accept, "127.0.0.1", 0))
    control = await asyncio.start_server(Control(backend).serve, "127.0.0.1", 0, limit=2**20)
    print(json.dumps({"control": address_of(control), "services": services}), flush=True)
    await asyncio.Event().wait()


def address_of(server):
    host, port = server.sockets[0].getsockname()
    return f"{host}:{port}"


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(0)
