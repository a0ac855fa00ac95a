"""A retry policy in grpcio's own service config, direct, and the same policy in the gateway with a client that has none."""

import json

import lab
from grpc_client import Requests, run

POLICY = {
    "maxAttempts": 3,
    "initialBackoff": "0.01s",
    "maxBackoff": "0.05s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", "ABORTED"],
}
SERVICE_CONFIG = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": POLICY}]})
OWN = [("grpc.enable_retries", 1), ("grpc.service_config", SERVICE_CONFIG)]
NONE = [("grpc.enable_retries", 0)]
# gRFC A6 has a client told how many attempts failed; grpcio keeps that to itself, and shows the gateway's word.
TOLD = ("initial", "trailing")
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
HALF_CLOSE = ["await", "half-close"]
OK = [HALF_CLOSE, ["headers"], ["message", "one"], ["trailers", 0]]
UNAVAILABLE = 14
CODES = {
    1: "CANCELLED",
    2: "UNKNOWN",
    3: "INVALID_ARGUMENT",
    5: "NOT_FOUND",
    8: "RESOURCE_EXHAUSTED",
    10: "ABORTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
}


def calls(at, script, kind, requests=(b"a", b"b")):
    """A call, and how often the backend saw it. Direct, the client's library makes it again."""

    def one(target):
        key = at.key("retries")
        sent = Requests(requests) if kind.startswith("stream") else requests
        options = OWN if target is at.direct else NONE
        result = run(target, script, kind, key, requests=sent, options=options)
        seen = [dict(call["headers"]) for call in target.control.calls(key)]
        told = [headers.get("grpc-previous-rpc-attempts") for headers in seen]
        return {**result, "told": told}

    return one


def refusal(code, pushback=None, awaits=True):
    extra = [] if pushback is None else [["grpc-retry-pushback-ms", pushback]]
    return [*([HALF_CLOSE] if awaits else []), ["trailers_only", code, "busy", extra]]


def statuses(at):
    """Trailers-only: once, twice, always; each kind of call."""
    for kind in KINDS:
        for code, name in CODES.items():
            again = name in POLICY["retryableStatusCodes"]
            expect = {"code": "OK", "told": [None, "1"]} if again else {"code": name, "told": [None]}
            at.both(f"{name}, once, {kind}", calls(at, [["attempts", refusal(code), OK]], kind), expect, TOLD)
        twice = [["attempts", refusal(UNAVAILABLE), refusal(10), OK]]
        at.both(f"twice, {kind}", calls(at, twice, kind), {"code": "OK", "told": [None, "1", "2"]}, TOLD)
        expect = {"code": "UNAVAILABLE", "told": [None, "1", "2"], "message": "busy"}
        at.both(f"always, {kind}", calls(at, refusal(UNAVAILABLE), kind), expect, TOLD)
        early = calls(at, [["attempts", refusal(UNAVAILABLE, awaits=False), OK]], kind)
        at.both(f"before the request has ended, {kind}", early, {"code": "OK", "told": [None, "1"]}, TOLD)


def pushback(at):
    """`grpc-retry-pushback-ms`: a number, a no, and what is no number."""
    for kind in ("unary_unary", "stream_stream"):
        scripts = {said: [["attempts", refusal(UNAVAILABLE, said), OK]] for said in ("30", "0", "-1", "soon")}
        at.both(f"30, {kind}", calls(at, scripts["30"], kind), {"code": "OK", "told": [None, "1"]}, TOLD)
        # grpcio itself hangs.
        at.through_only(f"0, {kind}", calls(at, scripts["0"], kind), {"code": "OK", "told": [None, "1"]})
        at.both(f"-1, {kind}", calls(at, scripts["-1"], kind), {"code": "UNAVAILABLE", "told": [None]})
        # To grpcio such metadata is INTERNAL.
        at.both(f"no number, {kind}", calls(at, scripts["soon"], kind), {"told": [None]})


def committed(at):
    """What has begun is not made again; headers alone are no beginning for the gateway."""
    for kind in KINDS:
        message = [["attempts", [HALF_CLOSE, ["headers"], ["message", "one"], ["trailers", UNAVAILABLE, "busy"]], OK]]
        at.both(f"after a message, {kind}", calls(at, message, kind), {"code": "UNAVAILABLE", "told": [None]})
        headers = [["attempts", [HALF_CLOSE, ["headers"], ["pause", 20], ["trailers", UNAVAILABLE, "busy"]], OK]]
        at.through_only(f"after headers, {kind}", calls(at, headers, kind), {"code": "OK", "told": [None, "1"]})
        closed = [["attempts", [HALF_CLOSE, ["close"]], OK]]
        at.both(f"a lost connection, {kind}", calls(at, closed, kind), {"code": "OK", "told": [None, "1"]}, TOLD)


SUITES = {"statuses": statuses, "pushback": pushback, "committed": committed}

if __name__ == "__main__":
    lab.main(SUITES)
