"""What a frame-level client and backend see of each other's calls: header lists, frames, and when they come."""

import asyncio
import base64
import gzip

import lab
from http2_peer import DEFAULT_WINDOW
from raw_client import at_backend, case, connected, ended, message, reset, seen, settled

HEADERS = ["headers", [["x-first", "1"]]]
MESSAGE = ["message", "one"]
TRAILERS = ["trailers", 0, "fine", [["x-last", "2"]]]
HALF_CLOSE = ["await", "half-close"]
PLAIN = [HALF_CLOSE, HEADERS, MESSAGE, TRAILERS]


def whole_call(at, script, payload=None, condition="done", **how):
    """One call; what both ends saw of it."""

    async def run(target):
        key = at.key("call")
        async with connected(target) as connection:
            stream = await ended(await connection.call(key, script, payload, **how))
            backend = (await connection.wait(key, condition))[0]
            return {**seen(stream), **at_backend(backend)}

    return case(run)


def frames(at):
    """Responses keep their frames: header blocks, END_STREAM, resets; and what precedes a reset comes before it."""
    empty = ["data", ""]
    padded = ["data", base64.b64encode(message(b"padded")).decode(), False, 100]
    last = ["data", base64.b64encode(message(b"one")).decode(), True]
    half = ["data", base64.b64encode(message(b"a whole one") + message(b"0123456789")[:9]).decode()]
    scripts = {
        "an ordinary call": [HEADERS, MESSAGE, TRAILERS],
        "headers and trailers": [HEADERS, TRAILERS],
        "trailers-only": [["trailers_only", 5, "none", [["x-only", "1"]]]],
        "trailers-only, OK": [["trailers_only", 0]],
        "DATA with END_STREAM": [HEADERS, last],
        "headers with END_STREAM": [["headers", [["x-first", "1"]], True]],
        "messages without payload": [HEADERS, ["message", "", 300], TRAILERS],
        "padded DATA": [HEADERS, padded, padded, TRAILERS],
        "a frame that is all padding": [HEADERS, ["data", "", False, 50], MESSAGE, TRAILERS],
        "empty DATA frames": [HEADERS, empty, MESSAGE, empty, empty, MESSAGE, TRAILERS],
        "one message in 62,832 DATA frames": [HEADERS, ["shredded", 62_832 * 5 - 5, 5], TRAILERS],
        "62,832 empty messages": [HEADERS, ["burst", 62_832, 0], TRAILERS],
        "2,500 messages of 20 bytes": [HEADERS, ["burst", 2500, 20], TRAILERS],
        "a message that ends in the middle": [HEADERS, half, TRAILERS],
        "one MiB": [HEADERS, ["large", 2**20], TRAILERS],
    }
    for name, script in scripts.items():
        at.both(name, whole_call(at, [HALF_CLOSE, *script]))
        if not any(step[0] in ("shredded", "burst", "large") for step in script):
            at.both(f"{name}, one packet", whole_call(at, [HALF_CLOSE, ["cork"], *script, ["uncork"]]))
    # More than a hundred: the h2 crate alone ends a connection at the hundredth of its life.
    at.both("500 empty DATA frames", whole_call(at, [HALF_CLOSE, HEADERS, *[empty] * 500, MESSAGE, TRAILERS]))
    for code in range(14):
        # REFUSED_STREAM before headers is retried (refusals.py).
        before = {"headers": [HEADERS], "a message": [HEADERS, MESSAGE], "half a message": [HEADERS, half]}
        before |= {"nothing": []} if code != 7 else {}
        for name, steps in before.items():
            script = [HALF_CLOSE, ["cork"], *steps, ["rst", code], ["uncork"]]
            at.both(f"{name} and RST {code} in one packet", whole_call(at, script))
    large = [HALF_CLOSE, HEADERS, ["large", 60_000], ["rst", 2]]
    at.both("60 KB and RST", whole_call(at, large), {"frames": ["HEADERS", "DATA 60005", "RST 2"]})


def requests(at):
    """Requests keep their bytes."""
    payloads = {
        "no message": b"",
        "one message": message(),
        "an empty message": message(b""),
        "300 empty messages": message(b"") * 300,
        "a compressed message": message(gzip.compress(b"hello", mtime=0), compressed=1),
        "2,500 messages of 20 bytes": message(b"m" * 20) * 2500,
        "half a message": message(b"0123456789")[:9],
        "one MiB": message(b"l" * 2**20),
    }
    for name, payload in payloads.items():
        at.both(name, whole_call(at, PLAIN, payload))
    compressed = base64.b64encode(message(gzip.compress(b"hello", mtime=0), compressed=1)).decode()
    answer = [HALF_CLOSE, ["headers", [["grpc-encoding", "gzip"]]], ["data", compressed], TRAILERS]
    encoded = {"extra": [["grpc-encoding", "gzip"], ["grpc-accept-encoding", "gzip,identity"]]}
    at.both("compressed both ways", whole_call(at, answer, message(b"\x1f\x8b", 1), **encoded))
    for size in (1, 5, 1000):
        at.both(f"20,000 bytes in DATA frames of {size}", shredded_request(at, size))
    at.both("padded DATA", padded_request(at))
    at.both("empty DATA frames", empty_frames(at, 1))
    at.both("1,000 empty DATA frames", empty_frames(at, 500))


def shredded_request(at, size):
    async def run(target):
        key = at.key("shredded")
        async with connected(target) as connection:
            stream = connection.open(key, PLAIN)
            await connection.peer.shredded(stream, message(b"s" * 19_995), size)
            await connection.peer.data(stream, b"", end=True)
            await ended(stream)
            return {**seen(stream), **at_backend((await connection.wait(key, "done"))[0])}

    return case(run)


def padded_request(at):
    async def run(target):
        key = at.key("padded")
        async with connected(target) as connection:
            stream = connection.open(key, PLAIN)
            for _ in range(200):
                await connection.peer.data(stream, message(b"padded"), padding=200)
            await connection.peer.data(stream, message(b"last"), end=True, padding=1)
            await ended(stream)
            return {**seen(stream), **at_backend((await connection.wait(key, "done"))[0])}

    return case(run)


def empty_frames(at, count):
    async def run(target):
        key = at.key("empty")
        async with connected(target) as connection:
            stream = connection.open(key, PLAIN)
            for payload in (b"", message()) * count + (b"",):
                await connection.peer.data(stream, payload)
            await connection.peer.data(stream, b"", end=True)
            await ended(stream)
            # A connection that ended may have ended before the backend heard of the call.
            backend = at_backend((await connection.wait(key, "done"))[0]) if stream.ended else {}
            return {**seen(stream), **backend}

    return case(run)


def timing(at):
    """Nothing waits for anything: each piece arrives before the next one is sent."""
    at.both("headers, messages and trailers as they come", as_they_come(at))
    at.both("half a message as it comes", half_a_message(at))
    at.both("a half-close alone", half_close(at))
    at.both("a client that has half-closed goes on receiving", goes_on_receiving(at))
    at.both("an early end with RST NO_ERROR", early_end(at, [["rst", 0]]), EARLY_END)
    # A backend that leaves the stream half open: the gateway tells both sides that nothing more is wanted.
    at.through_only("an early end", early_end(at, []), {**EARLY_END, "backend saw RST": 0})
    at.through_only("an early end while the client sends", early_end(at, [], sends=50), EARLY_END)


def unread(at):
    """A reset strikes while the client reads nothing, and more waits for it than its window takes."""
    for code in (2, 8):
        at.both(f"RST {code} while the client's window is closed", window_closed(at, code), {"reset": code})


def window_closed(at, code):
    async def run(target):
        key = at.key("unread")
        async with connected(target) as connection:
            stream = connection.open(key, [HEADERS, ["meanwhile", [["flood", 1000]]], ["go"], ["rst", code]], end=True)
            stream.reading = False
            await stream.until(lambda: stream.data_bytes == DEFAULT_WINDOW)
            await settled(connection, key, 1)
            await connection.go(key)
            await asyncio.wait_for(ended(stream), 5)
            return {**seen(stream), "reset": stream.reset}

    return case(run)


EARLY_END = {"frames": ["HEADERS", "DATA 8", "HEADERS END_STREAM", "RST 0"]}


def as_they_come(at):
    async def run(target):
        key = at.key("timing")
        script = [HEADERS, ["go"], MESSAGE, ["go"], MESSAGE, ["go"], TRAILERS]
        async with connected(target) as connection:
            stream = connection.open(key, script, end=True)
            for sight in (["HEADERS"], ["HEADERS", "DATA 8"], ["HEADERS", "DATA 16"]):
                await stream.until(lambda: stream.events == sight)
                await connection.go(key)
            return seen(await ended(stream))

    return case(run)


def half_a_message(at):
    async def run(target):
        key = at.key("half")
        first, second = (base64.b64encode(part).decode() for part in (message(b"0123456789")[:9], b"456789"))
        async with connected(target) as connection:
            script = [HEADERS, ["data", first], ["go"], ["data", second], TRAILERS]
            stream = connection.open(key, script, end=True)
            await stream.until(lambda: stream.data_bytes == 9)
            await connection.go(key)
            return seen(await ended(stream))

    return case(run)


def half_close(at):
    async def run(target):
        key = at.key("half-close")
        async with connected(target) as connection:
            stream = connection.open(key, PLAIN)
            await connection.peer.data(stream, message())
            open_ = (await connection.wait(key, ["messages", 1]))[0]["half_closed"]
            await connection.peer.data(stream, b"", end=True)
            closed = (await connection.wait(key, "half-close"))[0]
            return {"half-closed before": open_, **seen(await ended(stream)), **at_backend(closed)}

    return case(run)


def goes_on_receiving(at):
    async def run(target):
        key = at.key("receiving")
        script = [HALF_CLOSE, HEADERS, MESSAGE, ["go"], MESSAGE, ["go"], TRAILERS]
        async with connected(target) as connection:
            stream = await connection.call(key, script)
            for size in (8, 16):
                await stream.until(lambda: stream.data_bytes == size)
                await connection.go(key)
            return seen(await ended(stream))

    return case(run)


def early_end(at, after, sends=0):
    """The backend ends the call; the client has not half-closed, and sends on until it is told."""

    async def run(target):
        key = at.key("early")
        async with connected(target) as connection:
            stream = connection.open(key, [["await", "messages", 1], HEADERS, MESSAGE, TRAILERS, *after])
            await connection.peer.data(stream, message())
            for _ in range(sends):
                await connection.peer.data(stream, message(b"x" * 500))
            await reset(stream)
            backend = {} if after else {"backend saw RST": (await connection.wait(key, "rst"))[0]["rst"]}
            return {**seen(stream), **backend}

    return case(run)


SUITES = {"frames": frames, "requests": requests, "timing": timing, "unread": unread}

if __name__ == "__main__":
    lab.main(SUITES)
