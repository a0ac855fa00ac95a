"""Back-pressure: who does not read stops whoever sends to him, and nobody else; and bursts of small things."""

import asyncio
import contextlib

import lab
from framing import HALF_CLOSE, HEADERS, PLAIN, TRAILERS
from grpc_client import caller, channel, script_metadata, start
from raw_client import case, connected, ended, last, message, seen, settled

KIB = 1024
# What may be under way for one stream: the reader's window, and in the gateway a window and a send buffer; twice, since
# the data plane may double its buffers before this test should say so.
BOUND = 2 * (64 + 256 + 64) * KIB
STALLED = 12
FLOOD = [HEADERS, ["flood", 1000]]


def slow_readers(at):
    """Clients that do not read stop their backends; the calls of others over the same upstream go on."""
    expect = {"bounded": True, "others": ["0"] * 40, "rst": [8] * STALLED}
    at.both("clients that do not read, on one connection with others", slow_clients(at, shared=True), expect)
    at.both("clients that do not read, beside others", slow_clients(at, shared=False), expect)
    at.both("a backend that does not read", slow_backend(at), {"bounded": True, "others": ["0"] * 40})
    at.both("a reader that begins late", late_reader(at), {"bounded": True, "all of it": True})


def slow_clients(at, shared):
    """A dozen streams that are never read, and calls beside them."""

    async def run(target):
        stalled = at.key("stalled")
        async with contextlib.AsyncExitStack() as stack:
            slow = await stack.enter_async_context(connected(target))
            other = slow if shared else await stack.enter_async_context(connected(target))
            streams = []
            for _ in range(STALLED):
                stream = slow.open(stalled, FLOOD, end=True)
                stream.reading = False
                streams.append(stream)
            await settled(slow, stalled, STALLED)
            others = [await simple_call(other, at) for _ in range(40)]
            sent = [call["sent_bytes"] for call in target.control.calls(stalled)]
            for stream in streams:
                slow.peer.rst(stream.number, 8)
            resets = [call["rst"] for call in await slow.wait(stalled, "rst", STALLED)]
            return {"bounded": 0 < max(sent) <= BOUND, "most sent": max(sent), "others": others, "rst": resets}

    return measured(run)


def slow_backend(at):
    """A backend that takes nothing more from one stream, and calls beside it."""

    async def run(target):
        key = at.key("deaf")
        async with connected(target) as connection:
            stream = connection.open(key, [["stop-reading"], ["go"]])
            sending = asyncio.ensure_future(connection.peer.data(stream, message(b"x" * 8_000_000)))
            before = -1
            while before != stream.sent_bytes:
                before = stream.sent_bytes
                await asyncio.sleep(0.1)
            others = [await simple_call(connection, at) for _ in range(40)]
            sending.cancel()
            return {"bounded": 0 < before <= BOUND, "sent": before, "others": others}

    return measured(run)


def late_reader(at):
    """Nothing is lost of what waited."""

    async def run(target):
        key = at.key("late")
        async with connected(target) as connection:
            script = [HEADERS, ["large", 3_000_000], TRAILERS]
            stream = connection.open(key, script, end=True)
            stream.reading = False
            sent = await settled(connection, key, 1)
            stream.reading = True
            connection.peer.open_window(stream, stream.data_bytes)
            await ended(stream)
            return {"bounded": 0 < sent[0] <= BOUND, "sent": sent[0], "all of it": stream.data_bytes == 3_000_005}

    return measured(run)


def measured(run):
    """A case whose sizes are shown, but differ from way to way."""

    def one(target):
        result = case(run)(target)
        return {
            name: value for name, value in result.items() if name not in ("sent", "most sent") or not result["bounded"]
        }

    return one


async def simple_call(connection, at):
    stream = await ended(await connection.call(at.key("simple"), PLAIN))
    return last(stream).get("grpc-status")


def bursts(at):
    """Thousands of small messages are traffic, not a flood."""
    at.both(
        "5,000 tiny messages to a grpcio client", caller(at, [HEADERS, ["burst", 5000, 20], TRAILERS], "unary_stream")
    )
    at.both(
        "62,832 frames to a grpcio client", caller(at, [HEADERS, ["shredded", 314_155, 5], TRAILERS], "unary_stream")
    )
    many = [b"m" * 20] * 5000
    counted = [["await", "messages", 5000], HALF_CLOSE, HEADERS, ["message", "all"], TRAILERS]
    at.both("5,000 tiny messages from a grpcio client", caller(at, counted, "stream_unary", requests=many))
    echo = [HEADERS, ["echo"], TRAILERS]
    at.both("2,500 tiny messages there and back", caller(at, echo, "stream_stream", requests=many[:2500]))
    at.both("300 empty messages there and back", caller(at, echo, "stream_stream", requests=[b""] * 300))
    at.both("streams of tiny messages side by side", lambda target: side_by_side(target, at))


def unread_bursts(at):
    """Small frames that wait for a reader are still traffic: they cost nobody the connection, and none is lost."""
    at.both("200,000 empty messages to a client that does not read", unread_burst(at))
    at.both("200,000 empty messages to a backend that does not read", deaf_burst(at), {"others": ["0"] * 5})


def side_by_side(target, at):
    """Ten streams with a burst each on one channel."""
    script = [HALF_CLOSE, HEADERS, ["burst", 2500, 20], TRAILERS]
    with channel(target) as on:
        calls = [start(on, "unary_stream", metadata=script_metadata(at.key("side"), script)) for _ in range(10)]
        return {"messages": [sum(1 for _ in call) for call in calls], "codes": [call.code().name for call in calls]}


def unread_burst(at):
    """Four streams that fill their windows, and calls beside them; then everything is read."""

    async def run(target):
        key = at.key("unread")
        async with connected(target) as connection:
            streams = [connection.open(key, [HEADERS, ["burst", 50_000, 0], TRAILERS], end=True) for _ in range(4)]
            for stream in streams:
                stream.reading = False
            await settled(connection, key, 4)
            others = [await simple_call(connection, at) for _ in range(5)]
            for stream in streams:
                stream.reading = True
                connection.peer.open_window(stream, stream.data_bytes)
            return {"streams": [seen(await ended(stream)) for stream in streams], "others": others}

    return case(run)


def deaf_burst(at):
    """Four streams that fill their windows, and calls beside them on the same connections."""

    async def run(target):
        key = at.key("deaf")
        async with connected(target) as connection:
            sending = []
            for _ in range(4):
                stream = connection.open(key, [["stop-reading"], ["await", "rst"]])
                sending.append(asyncio.ensure_future(connection.peer.shredded(stream, message(b"") * 50_000, 5)))
            before = -1
            while before != (before := sum(stream.sent_bytes for stream in connection.peer.streams.values())):
                await asyncio.sleep(0.1)
            others = [await simple_call(connection, at) for _ in range(5)]
            for task in sending:
                task.cancel()
            return {"others": others, "goaways": connection.peer.goaways}

    return case(run)


SUITES = {"slow_readers": slow_readers, "bursts": bursts, "unread_bursts": unread_bursts}

if __name__ == "__main__":
    lab.main(SUITES)
