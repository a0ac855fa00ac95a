"""grpc-timeout: passed on with what is left of it, and enforced."""

import re
import time

import lab
from framing import HALF_CLOSE, HEADERS, MESSAGE, PLAIN
from grpc_client import channel, outcome, read, script_metadata, start
from raw_client import case, connected, ended, last, message, reset, seen

CANCEL = 8
HOLD = ["await", "rst"]
UNITS = {"H": 3600, "M": 60, "S": 1, "m": 1e-3, "u": 1e-6, "n": 1e-9}
# "TimeoutValue: positive integer as ASCII string of at most 8 digits", then one unit.
MALFORMED = ["", "10", "S", "-5S", "+5S", "000000005m", "1x", "0.1S", "1 S", "1s", "0x1S", "1m;"]
WELL_FORMED = [
    "5S",
    "20S",
    "90S",
    "1M",
    "2H",
    "99999999H",
    "30000m",
    "99999999m",
    "30000000u",
    "99999999u",
    "99999999n",
]


def forwarding(at):
    """What arrives at the backend is what is left, in a form that the specification allows."""
    for given in WELL_FORMED:
        expect = {"well formed": True, "not more": True, "at most 2 s less": True, "grpc-status": "0"}
        # 99999999n is a tenth of a second: enough for a call, not for two seconds less.
        at.both(f"grpc-timeout {given}", forwarded(at, given), expect)
    for given in MALFORMED:
        at.both(f"malformed grpc-timeout `{given}`", untouched(at, given), {"values": [given], "grpc-status": "0"})
    at.both("no grpc-timeout", untouched(at, None), {"values": [], "grpc-status": "0"})


def forwarded(at, given):
    async def run(target):
        key = at.key("timeout")
        async with connected(target) as connection:
            stream = await ended(await connection.call(key, PLAIN, extra=[["grpc-timeout", given]]))
            headers = dict((await connection.wait(key, "done"))[0]["headers"])
            arrived = headers.get("grpc-timeout", "none")
            lost = seconds(given) - seconds(arrived) if re.fullmatch(r"\d{1,8}[HMSmun]", arrived) else None
            return {
                "well formed": lost is not None,
                # A coarser unit may round up by no more than itself.
                "not more": lost is not None and lost >= -1e-6,
                "at most 2 s less": lost is not None and lost <= max(2, seconds(given) / 1e6),
                "grpc-status": last(stream)["grpc-status"],
            }

    return case(run)


def seconds(value):
    return int(value[:-1]) * UNITS[value[-1]]


def untouched(at, given):
    """The call takes a while, so that a deadline that nobody set would show."""

    async def run(target):
        key = at.key("malformed")
        extra = [["grpc-timeout", given]] if given is not None else []
        async with connected(target) as connection:
            script = [HALF_CLOSE, ["pause", 40], *PLAIN]
            stream = await ended(await connection.call(key, script, extra=extra))
            values = [
                value for name, value in (await connection.wait(key, "done"))[0]["headers"] if name == "grpc-timeout"
            ]
            return {"values": values, "grpc-status": last(stream).get("grpc-status")}

    return case(run)


def expiry(at):
    """A client without a clock of its own gets status 4, and the backend RST CANCEL, when the time is over."""
    trailers_only = {"frames": ["HEADERS END_STREAM"], "grpc-status": "4", "rst": CANCEL, "in time": True}
    trailers = {**trailers_only, "frames": ["HEADERS", "HEADERS END_STREAM"]}
    after_message = {**trailers, "frames": ["HEADERS", "DATA 8", "HEADERS END_STREAM"]}
    at.through_only("before headers", expires(at, [HOLD]), trailers_only)
    at.through_only("after headers", expires(at, [HEADERS, HOLD]), trailers)
    at.through_only("after a message", expires(at, [HEADERS, MESSAGE, HOLD]), after_message)
    at.through_only("a backend that goes on sending", expires(at, [HEADERS, ["flood", 100]]), {"rst": CANCEL})
    half = ["data", "AAAAAAoxMjM0"]
    at.through_only("inside a message", expires(at, [HEADERS, half, HOLD]), {"rst": CANCEL, "in time": True})
    sending = {**trailers, "frames": ["HEADERS", "HEADERS END_STREAM", "RST 0"]}
    at.through_only("while the client sends", expires(at, [HEADERS, HOLD], half_closes=False), sending)
    at.through_only(
        "while the client does not read", expires(at, [HEADERS, ["flood", 1000]], reads=False), {"rst": CANCEL}
    )
    for given in ("0S", "1n", "0n"):
        at.through_only(f"grpc-timeout {given}", expires_at_once(at, given), {"grpc-status": "4"})


def expires(at, script, half_closes=True, reads=True):
    async def run(target):
        key = at.key("expiry")
        async with connected(target) as connection:
            begin = time.monotonic()
            stream = connection.open(key, script, extra=[["grpc-timeout", "200m"]])
            stream.reading = reads
            await connection.peer.data(stream, message(), end=half_closes)
            backend = (await connection.wait(key, "rst"))[0]
            elapsed = time.monotonic() - begin
            if reads:
                await (ended if half_closes else reset)(stream)
            status = last(stream).get("grpc-status")
            return {**seen(stream), "grpc-status": status, "rst": backend["rst"], "in time": 0.19 < elapsed < 1.5}

    return case(run)


def expires_at_once(at, given):
    async def run(target):
        async with connected(target) as connection:
            extra = [["grpc-timeout", given]]
            stream = await ended(await connection.call(at.key("zero"), [HOLD], extra=extra))
            return {"grpc-status": last(stream).get("grpc-status")}

    return case(run)


def library(at):
    """grpcio with a deadline: its own clock and the gateway's run together."""
    points = {
        "before headers": [HOLD],
        "after headers": [HEADERS, HOLD],
        "after a message": [HEADERS, MESSAGE, HOLD],
    }
    for point, script in points.items():
        for kind in ("unary_unary", "unary_stream", "stream_stream"):
            expect = {"code": "DEADLINE_EXCEEDED", "rst": CANCEL}
            at.both(f"{kind}, {point}", lambda target: timed_out(target, at, kind, script), expect)
    own = {
        "RST CANCEL before headers": [HALF_CLOSE, ["rst", CANCEL]],
        "RST CANCEL after headers": [HALF_CLOSE, HEADERS, ["rst", CANCEL]],
        "RST CANCEL after a message": [HALF_CLOSE, HEADERS, MESSAGE, ["rst", CANCEL]],
        "status 4": [HALF_CLOSE, ["trailers_only", 4, "mine"]],
    }
    for name, script in own.items():
        at.both(f"the backend's own deadline: {name}", lambda target: answered(target, at, script))


def timed_out(target, at, kind, script):
    key = at.key("deadline")
    with channel(target) as on:
        call = start(on, kind, metadata=script_metadata(key, script), timeout=0.1)
        messages = []
        if kind.endswith("_stream"):
            read(call, messages)
        result = outcome(call, kind, messages, script)
        return {**result, "rst": target.control.wait(key, "rst")[0]["rst"]}


def answered(target, at, script):
    with channel(target) as on:
        call = start(on, "unary_stream", metadata=script_metadata(at.key("own"), script), timeout=20)
        read(call, [])
        # Whether a message that a reset follows at once still counts is the client's luck, direct as well.
        return outcome(call, "unary_stream", [], script)


SUITES = {"forwarding": forwarding, "expiry": expiry, "library": library}

if __name__ == "__main__":
    lab.main(SUITES)
