"""Calls frame by frame, for what a gRPC library hides."""

import asyncio
import contextlib

from http2_peer import Gone, connect
from grpc_client import script_metadata
from lab import fields

PATIENCE = 15
PATH = "/raw.Raw/Call"


def message(payload=b"hi", compressed=0):
    return bytes([compressed]) + len(payload).to_bytes(4, "big") + payload


def request(path=PATH, extra=(), without=(), **changed):
    """The header list of a gRPC request, with changes: `content_type=` and so on."""
    plain = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "parity.test",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    plain.update({name.replace("_", "-"): value for name, value in changed.items()})
    return [[name, value] for name, value in plain.items() if name not in without] + [list(pair) for pair in extra]


class Connection:
    """A connection to a target, and the streams that a case opens on it."""

    def __init__(self, peer, target):
        self.peer = peer
        self.target = target

    def open(self, key, script, end=False, **how):
        """Opens a stream; `how` goes to `request`."""
        extra = [*script_metadata(key, script), *how.pop("extra", ())]
        return self.peer.open(request(extra=extra, **how), end)

    async def call(self, key, script, payload=None, **how):
        """Opens a stream, sends one message and half-closes."""
        stream = self.open(key, script, **how)
        await self.peer.data(stream, message() if payload is None else payload, end=True)
        return stream

    async def wait(self, key, condition, count=1):
        """What the backend saw, once it saw it (lab.Control.wait)."""
        return await asyncio.to_thread(self.target.control.wait, key, condition, count, PATIENCE)

    async def go(self, key):
        await asyncio.to_thread(self.target.control.go, key)


@contextlib.asynccontextmanager
async def connected(target, path=PATH, settings=None):
    """A connection that ends with the case."""
    peer = await connect(target.address(path), settings)
    try:
        yield Connection(peer, target)
    finally:
        peer.close()


def case(run):
    """Makes a coroutine function of a target a plain one, for Lab.both; it fails when it takes too long."""

    def one(target):
        return asyncio.run(asyncio.wait_for(run(target), PATIENCE))

    return one


async def ended(stream):
    """Waits for the end of a response: END_STREAM or RST."""
    with contextlib.suppress(Gone):
        await stream.until(lambda: stream.ended or stream.reset is not None)
    return stream


async def reset(stream):
    """Waits for RST, which may come after END_STREAM."""
    with contextlib.suppress(Gone):
        await stream.until(lambda: stream.reset is not None)
    return stream


async def settled(connection, key, count):
    """Waits until the backend's calls send no more; how much each of them has sent by then."""
    await connection.wait(key, ["sent", 1], count)
    before = None
    while True:
        now = [call["sent_bytes"] for call in await connection.wait(key, "open", count)]
        if now == before:
            return now
        before = now
        await asyncio.sleep(0.1)


def seen(stream):
    """What a client saw of a response: frames, header lists, bytes."""
    data = bytes(stream.data)
    return {
        "status": last(stream).get("grpc-status"),
        "frames": merged(stream.events),
        "blocks": [fields(block) for block in stream.blocks],
        "data": data.decode("latin-1") if len(data) <= 100 else f"{len(data)} bytes, {stream.messages} messages",
    }


def last(stream):
    """The last header block of a response: its trailers, if it has any."""
    return dict(stream.blocks[-1]) if stream.blocks else {}


def merged(events):
    """Frames for comparison: DATA frames that follow each other count as one, with the END_STREAM of the last."""
    frames = []
    for event in events:
        word, _, rest = event.partition(" ")
        if word == "DATA" and frames and frames[-1].startswith("DATA ") and "END_STREAM" not in frames[-1]:
            size, _, end = rest.partition(" ")
            frames[-1] = f"DATA {int(frames[-1].split()[1]) + int(size)}" + (" " + end if end else "")
        else:
            frames.append(event)
    return frames


def at_backend(call, without=("grpc-timeout",)):
    """What a backend saw of a request (an element of Connection.wait's answer)."""
    return {
        "request": fields(call["headers"], without),
        # When the connection closes afterwards is the client's affair.
        "request frames": [frame for frame in merged(call["events"]) if frame != "CONNECTION LOST"],
        "request data": call["data"] if len(call["data"]) <= 100 else f"{len(call['data'])} bytes",
    }
