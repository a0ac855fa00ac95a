"""SIGTERM and SIGINT, seen by clients frame by frame. Each suite ends the gateways that it runs against."""

import asyncio
import contextlib
import os
import signal
import time
import urllib.error
import urllib.request

import lab
from framing import HEADERS, MESSAGE, PLAIN, TRAILERS
from http2_peer import LARGEST_WINDOW
from raw_client import case, connected, ended, last, seen

FOREVER = ["await", "rst"]
OPEN = {"frames": ["HEADERS", "DATA 16", "HEADERS END_STREAM"], "status": "0"}


def graceful(at):
    """Nothing is cut: GOAWAY at once to every connection, calls in flight finish, and so do calls that just came."""
    expect = {
        "idle": [[LARGEST_WINDOW, 0], [0, 0]],
        "busy": [[LARGEST_WINDOW, 0], [3, 0]],
        "stream": OPEN,
        "late call": {"frames": ["HEADERS", "DATA 8", "HEADERS END_STREAM"], "status": "0"},
        "ready": [200, 503],
        "accepts": False,
        "closes": [True, True],
    }
    at.through_only("SIGTERM", drained(at, signal.SIGTERM), expect)


def interrupted(at):
    """SIGINT means the same."""
    expect = {"stream": OPEN, "accepts": False, "closes": [True, True]}
    at.through_only("SIGINT", drained(at, signal.SIGINT), expect)


def drained(at, number):
    async def run(target):
        key = at.key("drain")
        async with connected(target) as idle, connected(target) as busy:
            await idle.peer.signal.until(lambda: idle.peer.settings_acks)
            stream = busy.open(key, [HEADERS, MESSAGE, ["go"], MESSAGE, TRAILERS], end=True)
            await stream.until(lambda: stream.data_bytes == 8)
            # The PING that asks whether everything sent before the first GOAWAY has arrived waits for the late call.
            busy.peer.answers_pings = False
            before = await ready(target)
            os.kill(target.gateway["pid"], number)
            await idle.peer.signal.until(lambda: len(idle.peer.goaways) == 2)
            await busy.peer.signal.until(lambda: busy.peer.goaways and busy.peer.pings)
            late = await busy.call(at.key("late"), PLAIN)
            busy.peer.answer_ping()
            await ended(late)
            await busy.peer.signal.until(lambda: len(busy.peer.goaways) == 2)
            after, accepts = await ready(target), await connects(target)
            await busy.go(key)
            await ended(stream)
            for connection in (idle, busy):
                await connection.peer.signal.until(lambda: connection.peer.lost)
            return {
                "idle": idle.peer.goaways,
                "busy": busy.peer.goaways,
                "stream": brief(stream),
                "late call": brief(late),
                "ready": [before, after],
                "accepts": accepts,
                "closes": [idle.peer.lost, busy.peer.lost],
            }

    return case(run)


def delayed(at):
    """Listeners accept until the delay is over, and what they accept is told to go elsewhere, and served."""
    at.through_only("a delay", accepted_late(at), {"late call": "0", "goaway": True, "accepts after the delay": False})


def accepted_late(at):
    async def run(target):
        key = at.key("delay")
        async with connected(target) as connection:
            stream = connection.open(key, [HEADERS, MESSAGE, ["go"], MESSAGE, TRAILERS], end=True)
            await stream.until(lambda: stream.data_bytes == 8)
            os.kill(target.gateway["pid"], signal.SIGTERM)
            await connection.peer.signal.until(lambda: connection.peer.goaways)
            async with connected(target) as late:
                call = await ended(late.open(at.key("late"), PLAIN, end=True))
                await late.peer.signal.until(lambda: late.peer.goaways)
                result = {"late call": brief(call)["status"], "goaway": bool(late.peer.goaways)}
            end = time.monotonic() + 5
            while await connects(target) and time.monotonic() < end:
                await asyncio.sleep(0.05)
            result["accepts after the delay"] = await connects(target)
            await connection.go(key)
            await ended(stream)
            return {**result, "stream": brief(stream)}

    return case(run)


def brief(stream):
    return {"frames": seen(stream)["frames"], "status": last(stream).get("grpc-status")}


async def ready(target):
    """The status of the admin listener's /ready."""

    def ask():
        try:
            with urllib.request.urlopen(f"http://{target.gateway['admin']}/ready", timeout=5) as response:
                return response.status
        except urllib.error.HTTPError as error:
            return error.code

    return await asyncio.to_thread(ask)


async def connects(target):
    with contextlib.suppress(ConnectionError):
        async with connected(target):
            return True
    return False


def out_of_time(at):
    """Calls that are open when the time is over hear 14; inside a message they are reset."""
    expect = {"boundary": CUT, "inside": "reset", "within 3 s": True}
    at.through_only("the time of the drain is over", cut(at, [signal.SIGTERM]), expect)


def second_signal(at):
    """A second signal does not wait for the time to be over."""
    expect = {"boundary": CUT, "inside": "reset", "within 3 s": True}
    at.through_only("a second signal", cut(at, [signal.SIGTERM, signal.SIGTERM]), expect)


CUT = {"frames": ["HEADERS", "DATA 8", "HEADERS END_STREAM"], "status": "14"}


def cut(at, signals):
    async def run(target):
        async with connected(target) as connection:
            boundary = connection.open(at.key("boundary"), [HEADERS, MESSAGE, FOREVER], end=True)
            inside = connection.open(at.key("inside"), [HEADERS, ["data", HALF], FOREVER], end=True)
            await boundary.until(lambda: boundary.data_bytes == 8)
            await inside.until(lambda: inside.data_bytes == 10)
            begin = time.monotonic()
            for count, number in enumerate(signals):
                os.kill(target.gateway["pid"], number)
                await connection.peer.signal.until(lambda: len(connection.peer.goaways) > count)
            await ended(boundary)
            await ended(inside)
            elapsed = time.monotonic() - begin
            return {
                "boundary": brief(boundary),
                "inside": "reset" if inside.reset is not None else seen(inside)["frames"],
                "within 3 s": elapsed < 3,
            }

    return case(run)


# The first ten bytes of a message.
HALF = "AAAAAAoxMjM0NQ=="

SUITES = {
    "graceful": graceful,
    "interrupted": interrupted,
    "delayed": delayed,
    "out_of_time": out_of_time,
    "second_signal": second_signal,
}

if __name__ == "__main__":
    lab.main(SUITES)
