"""Clients that cancel, or vanish: the backend sees RST CANCEL, and nobody else sees anything."""

import asyncio
import json
import os
import signal
import subprocess
import sys

import lab
from grpc_client import Held, channel, script_metadata, simple, start
from raw_client import PATH, case, connected, ended, seen

CANCEL = 8
BURST = 1000
MESSAGE = ["message", "one"]
HOLD = ["await", "rst"]
POINTS = {
    "before headers": [["go"], HOLD],
    "after headers": [["headers"], ["go"], HOLD],
    "after a message": [["headers"], MESSAGE, ["go"], HOLD],
    "while messages come": [["headers"], ["go"], ["flood", 1000]],
}


def library(at):
    """grpcio cancels at every point of a response, in every kind of call."""
    for point, script in POINTS.items():
        for kind in ("unary_unary", "unary_stream", "stream_stream"):
            expect = {"code": "CANCELLED", "rst": CANCEL, "next call": "OK"}
            at.both(f"{kind}, {point}", lambda target: cancelled(target, at, kind, script), expect)


def cancelled(target, at, kind, script):
    key = at.key("cancel")
    requests = Held() if kind.startswith("stream") else [b"hi"]
    if kind.startswith("stream"):
        requests.send(b"hi")
    with channel(target) as on:
        call = start(on, kind, requests, metadata=script_metadata(key, script))
        target.control.wait(key, ["step", "at go"])
        target.control.go(key)
        call.cancel()
        backend = target.control.wait(key, "rst")[0]
        return {"code": call.code().name, "rst": backend["rst"], "next call": simple(on, at)}


def vanished(at):
    """A client's process is killed: its calls end at the backend by themselves."""
    for point in ("before headers", "after a message", "while messages come"):
        at.through_only(f"killed, {point}", lambda target: killed(target, at, POINTS[point]), {"rst": [CANCEL] * 3})
    at.through_only("connection closed", closed(at), {"rst": [CANCEL] * 3})


def killed(target, at, script):
    """A grpcio client of its own process, with three open calls."""
    key = at.key("killed")
    arguments = [target.address(PATH), json.dumps(script_metadata(key, script))]
    client = subprocess.Popen([sys.executable, __file__, "open-and-hold", *arguments])
    try:
        target.control.wait(key, ["step", "at go"], count=3)
        target.control.go(key, 3)
    finally:
        os.kill(client.pid, signal.SIGKILL)
        client.wait()
    return {"rst": [call["rst"] for call in target.control.wait(key, "rst", count=3)]}


def open_and_hold(address, metadata):
    """What the killed process does."""
    import grpc

    on = grpc.insecure_channel(address)
    metadata = [tuple(pair) for pair in json.loads(metadata)]
    calls = [on.stream_stream(PATH)(iter(Held()), metadata=metadata) for _ in range(3)]
    for call in calls:
        call.code()


def closed(at):
    async def run(target):
        key = at.key("closed")
        async with connected(target) as connection:
            for _ in range(3):
                connection.open(key, POINTS["after headers"])
            await connection.wait(key, ["step", "at go"], 3)
        await asyncio.to_thread(target.control.go, key, 3)
        calls = await asyncio.to_thread(target.control.wait, key, "rst", 3)
        return {"rst": [call["rst"] for call in calls]}

    return case(run)


def bursts(at):
    """A thousand cancels at once are traffic, not a flood."""
    at.both(f"{BURST} calls cancelled by grpcio", lambda target: library_burst(target, at), {"next call": "OK"})
    for name, condition in {"once at the backend": "open", "at once": None}.items():
        expect = {"next call": "HEADERS END_STREAM", "goaway": []}
        at.both(f"{BURST} calls cancelled {name}", raw_burst(at, condition), expect)


def library_burst(target, at):
    key = at.key("burst")
    with channel(target) as on:
        metadata = script_metadata(key, [["headers"], HOLD])
        calls = [start(on, "unary_stream", metadata=metadata) for _ in range(BURST)]
        target.control.wait(key, "open", count=BURST)
        for call in calls:
            call.cancel()
        seen_by_backend = [call["rst"] for call in target.control.wait(key, "rst", count=BURST)]
        codes = {call.code().name for call in calls}
        return {"codes": sorted(codes), "rst": sorted(set(seen_by_backend)), "next call": simple(on, at)}


def raw_burst(at, condition):
    """Cancels in one write: each after its own HEADERS, or all together once the backend has the calls."""

    async def run(target):
        key = at.key("burst")
        async with connected(target) as connection:
            peer = connection.peer
            await peer.signal.until(lambda: peer.settings_acks)
            peer.cork()
            streams = []
            for _ in range(BURST):
                streams.append(connection.open(key, [["headers"], HOLD]))
                if condition is None:
                    peer.rst(streams[-1].number, CANCEL)
            peer.uncork()
            if condition:
                await connection.wait(key, condition, BURST)
                peer.cork()
                for stream in streams:
                    peer.rst(stream.number, CANCEL)
                peer.uncork()
                await connection.wait(key, "rst", BURST)
            last = await ended(connection.open(at.key("next"), [["trailers_only", 0]], end=True))
            return {"next call": (seen(last)["frames"] or ["nothing"])[-1], "goaway": peer.goaways}

    return case(run)


SUITES = {"library": library, "vanished": vanished, "bursts": bursts}

if __name__ == "__main__":
    if sys.argv[1] == "open-and-hold":
        open_and_hold(*sys.argv[2:])
    lab.main(SUITES)
