"""Calls that the backend provably did not process, and backends that take few calls at a time, with grpcio."""

import lab
from grpc_client import Requests, caller, channel, outcome, read, run, script_metadata, simple, start

REFUSED_STREAM = 7
OK = [["await", "half-close"], ["headers"], ["echo"], ["trailers", 0]]
MESSAGE = ["message", "one"]


def refused(at):
    """REFUSED_STREAM and GOAWAY below the stream: retried, by whomever; UNAVAILABLE when it never ends."""
    below = ["goaway", "below"]
    refusals = {
        "REFUSED_STREAM": [["rst", REFUSED_STREAM]],
        "REFUSED_STREAM once the request is there": [["await", "half-close"], ["rst", REFUSED_STREAM]],
        "GOAWAY below": [below],
        "GOAWAY below, then close": [below, ["close"]],
        "GOAWAY below once the request is there": [["await", "half-close"], below, ["close"]],
        "GOAWAY below with an error code": [["goaway", "below", 11], ["close"]],
    }
    again = {"code": "OK", "attempts": 2}
    for name, refusal in refusals.items():
        once = [["attempts", refusal, OK]]
        # grpcio retries after GOAWAY only, and then may lose messages of a stream; a gateway does better.
        compare = at.both if "GOAWAY" in name else at.through_only
        compare(f"{name}, once, unary", attempts(at, once, "unary_unary", [b"hi"]), {**again, "messages": ["hi"]})
        streamed = attempts(at, once, "stream_stream", [b"a", b"b", b"c"])
        at.through_only(f"{name}, once, streams", streamed, {**again, "messages": ["a", "b", "c"]})
        for kind in ("unary_unary", "stream_stream"):
            at.both(f"{name}, always, {kind}", caller(at, refusal, kind), {"code": "UNAVAILABLE"})
    sending = [["attempts", [["rst", REFUSED_STREAM]], [["await", "messages", 20], ["headers"], ["trailers", 0]]]]
    endless = caller(at, sending, "stream_stream", endless=True)
    at.through_only("REFUSED_STREAM, once, sending", endless, {"code": "OK"})
    # More than is kept for a second attempt: the client hears that it may repeat it.
    big = [["attempts", [["await", "bytes", 100_000], ["rst", REFUSED_STREAM]], OK]]
    at.both("REFUSED_STREAM after 100 KB", caller(at, big, "unary_unary", requests=[b"x" * 120_000]))


def attempts(at, script, kind, requests):
    """A call, and how often the backend saw it."""

    def one(target):
        key = at.key("attempts")
        sent = Requests(requests) if kind.startswith("stream") else requests
        result = run(target, script, kind, key, requests=sent)
        return {**result, "attempts": len(target.control.calls(key))}

    return one


def drains(at):
    """GOAWAY with calls in flight: they finish, and new calls go elsewhere, without one failing."""
    scripts = {
        "GOAWAY at the last stream": [["goaway", "this"]],
        "GOAWAY for all, then at the last stream": [["goaway", "all"], ["pause", 20], ["goaway", "this"]],
        "GOAWAY for all": [["goaway", "all"]],
    }
    for name, goaway in scripts.items():
        script = [["headers"], MESSAGE, ["go"], *goaway, MESSAGE, ["go"], MESSAGE, ["trailers", 0]]
        expect = {"code": "OK", "messages": ["one", "one", "one"], "others": ["OK"] * 20}
        at.both(name, lambda target: drained(target, at, script), expect)


def drained(target, at, script):
    """A stream that lives through the GOAWAY, and calls beside it on the same channel."""
    key = at.key("drain")
    messages, others = [], []
    with channel(target) as on:
        call = start(on, "unary_stream", metadata=script_metadata(key, script), timeout=20)
        messages.append(next(call).decode())
        others += [simple(on, at) for _ in range(5)]
        target.control.go(key)
        messages.append(next(call).decode())
        others += [simple(on, at) for _ in range(15)]
        target.control.go(key)
        read(call, messages)
        return {**outcome(call, "unary_stream", messages, script), "others": others}


def few_streams(at):
    """A backend that allows one stream at a time, and one that lowers its limit while calls are open."""
    expect = {"codes": ["OK"] * 30, "over_limit": 0}
    at.both("one stream at a time", lambda target: crowd(target, at, "/raw.OneAtATime/Call"), expect)
    script = [["headers"], MESSAGE, ["settings", {"3": 1}], ["go"], ["trailers", 0]]
    at.both("a limit of one that comes later", lambda target: lowered(target, at, script), expect)


def crowd(target, at, path):
    """Thirty calls at once on one channel."""
    key = at.key("crowd")
    with channel(target, path) as on:
        calls = [start(on, "unary_unary", path=path, metadata=script_metadata(key, OK), timeout=20) for _ in range(30)]
        codes = [call.code().name for call in calls]
    return {"codes": codes, "over_limit": sum(call["over_limit"] for call in target.control.calls(key))}


def lowered(target, at, script):
    """A stream that is open while the limit falls, and calls that must wait for it, or go elsewhere."""
    first, key = at.key("lowering"), at.key("lowered")
    path = "/raw.Other/Call"
    with channel(target, path) as on:
        holding = start(on, "unary_stream", path=path, metadata=script_metadata(first, script), timeout=20)
        target.control.wait(first, ["step", "settings"])
        calls = [start(on, "unary_unary", path=path, metadata=script_metadata(key, OK), timeout=20) for _ in range(29)]
        target.control.go(first)
        read(holding, [])
        codes = [holding.code().name, *(call.code().name for call in calls)]
    return {"codes": codes, "over_limit": sum(call["over_limit"] for call in target.control.calls(key))}


SUITES = {"refused": refused, "drains": drains, "few_streams": few_streams}

if __name__ == "__main__":
    lab.main(SUITES)
