"""Endings that peers are known to lose, with grpcio."""

import base64
import collections

import lab
from grpc_client import Held, caller, channel, outcome, read, script_metadata, start

MESSAGE = ["message", "one"]
HTML = base64.b64encode(b"<html><body>Bad gateway</body></html>").decode()
HTTP_STATUSES = (200, 204, 301, 400, 401, 403, 404, 405, 408, 409, 413, 418, 429, 431, 500, 501, 502, 503, 504)
# https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md; what it does not name is UNKNOWN.
MAPPED = {
    400: "INTERNAL",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "UNIMPLEMENTED",
    429: "UNAVAILABLE",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "UNAVAILABLE",
}
EARLY_ENDS = 2000


def odd_endings(at):
    """Responses that end without trailers, or with trailers that lack something."""
    unknown = {"code": "UNKNOWN"}
    whole = base64.b64encode(b"\0\0\0\0\x03one").decode()
    scripts = {
        "DATA, then an empty DATA with END_STREAM": [["headers"], MESSAGE, ["data", "", True]],
        "DATA with END_STREAM": [["headers"], ["data", whole, True]],
        "headers with END_STREAM": [["headers", [["x-first", "1"]], True]],
        "trailers without grpc-status": [["headers"], MESSAGE, ["raw_headers", [["x-last", "1"]], True]],
    }
    for name, script in scripts.items():
        # Not "sending": a grpcio client that has not half-closed goes on after an END_STREAM without trailers.
        for kind in ("unary_unary", "unary_stream", "stream_stream"):
            # When all comes at once grpcio may drop the message, direct as well (framing.py sees that it came).
            once = caller(at, [["await", "half-close"], *script], kind)
            at.both(f"{name}, {kind}", once, unknown, ignore=("messages",))
            at.both(f"{name}, later, {kind}", caller(at, apart([["await", "half-close"], *script]), kind), unknown)
    script = [["headers"], MESSAGE, ["go"], ["data", "", True]]
    delivered = {"code": "UNKNOWN", "messages": ["one"]}
    at.both("the message before a missing end", caller(at, script, "unary_stream", read_first=1), delivered)
    no_number = [["headers"], MESSAGE, ["trailers", "soon"]]
    # grpcio fails the whole stream when it parses this; what it had not read by then is lost, direct as well.
    at.both("grpc-status no number", caller(at, no_number, "unary_stream"), {"code": "INTERNAL"}, ("messages",))


def apart(script):
    """The same script with each step in a packet of its own."""
    return [step for one in script for step in (one, ["pause", 10])]


def http_mapping(at):
    """HTTP answers without a grpc-status, from something that does not speak gRPC."""
    for status in HTTP_STATUSES:
        html = [[":status", str(status)], ["content-type", "text/html"]]
        grpc = [[":status", str(status)], ["content-type", "application/grpc"]]
        expect = {"code": MAPPED.get(status, "UNKNOWN")}
        for kind in ("unary_unary", "unary_stream"):
            page = [["raw_headers", html], ["data", HTML, True]]
            # What of a page that is no gRPC framing a client makes when the status is 200 is its own affair.
            at.both(f"HTTP {status} with a page, {kind}", caller(at, page, kind), expect if status != 200 else {})
        at.both(f"HTTP {status}, headers only", caller(at, [["raw_headers", html, True]], "unary_unary"), expect)
        at.both(f"HTTP {status}, gRPC content-type", caller(at, [["raw_headers", grpc, True]], "unary_unary"), expect)
        with_status = [["raw_headers", [*grpc, ["grpc-status", "5"], ["grpc-message", "none"]], True]]
        at.both(f"HTTP {status} with a grpc-status", caller(at, with_status, "unary_unary"))


def lengths(at):
    """content-length, in one packet with the trailers and before them."""
    zero, eight = ["headers", [["content-length", "0"]]], ["headers", [["content-length", "8"]]]
    scripts = {
        "content-length 0 and trailers": [zero, ["trailers", 5, "none"]],
        "content-length 0 and trailers OK": [zero, ["trailers", 0]],
        "content-length 8 and one message": [eight, MESSAGE, ["trailers", 0]],
        "trailers-only with content-length 0": [["trailers_only", 5, "none", [["content-length", "0"]]]],
    }
    for name, script in scripts.items():
        for kind in ("unary_unary", "unary_stream"):
            corked = [["cork"], *script, ["uncork"]]
            at.both(f"{name}, one packet, {kind}", caller(at, corked, kind))
            at.both(f"{name}, packets apart, {kind}", caller(at, apart(script), kind))


def large_metadata(at):
    """70 KB of response headers, of trailers, and of a trailers-only response."""
    for size in (7_000, 17_000, 70_000):
        big = [[f"x-big-{i}", chr(97 + i % 26) * 1000] for i in range(size // 1000)]
        scripts = {
            "headers": [["headers", big], MESSAGE, ["trailers", 0]],
            "trailers": [["headers"], MESSAGE, ["trailers", 5, "none", big]],
            "trailers-only": [["trailers_only", 5, "none", big]],
            "one value": [["headers", [["x-one", "v" * size]]], MESSAGE, ["trailers", 0]],
        }
        for name, script in scripts.items():
            at.both(f"{size} bytes of {name}", caller(at, script, "unary_stream"))


def early_ends(at):
    """The backend ends a call before the client half-closes, again and again on one channel."""
    scripts = {
        "trailers": [["headers"], MESSAGE, ["trailers", 7, "early"]],
        "trailers, then RST NO_ERROR": [["headers"], MESSAGE, ["trailers", 7, "early"], ["rst", 0]],
        "trailers-only": [["trailers_only", 7, "early"]],
        "after the first message": [["await", "messages", 1], ["headers"], MESSAGE, ["trailers", 7, "early"]],
    }
    for name, script in scripts.items():
        count = EARLY_ENDS if name == "trailers" else EARLY_ENDS // 10
        expect = {"lost": 0, "outcomes": 1}
        at.both(f"{count} early ends: {name}", lambda target: loop(target, at.key("loop"), script, count), expect)


def loop(target, key, script, count):
    """The same call `count` times on one channel; the client never half-closes."""
    seen = collections.Counter()
    with channel(target) as on:
        for _ in range(count):
            requests = Held()
            requests.send(b"hi")
            call = start(on, "stream_stream", requests, metadata=script_metadata(key, script), timeout=20)
            messages = []
            read(call, messages)
            requests.end()
            seen[str(sorted(outcome(call, "stream_stream", messages, script).items()))] += 1
    common = seen.most_common()
    return {"lost": sum(number for _, number in common[1:]), "outcomes": len(common), "first": common[:3]}


SUITES = {
    "odd_endings": odd_endings,
    "http_mapping": http_mapping,
    "lengths": lengths,
    "large_metadata": large_metadata,
    "early_ends": early_ends,
}

if __name__ == "__main__":
    lab.main(SUITES)
