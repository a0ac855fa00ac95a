"""Answers of the gateway itself, and what it does with requests that are no gRPC or not even HTTP/2."""

import lab
from framing import HALF_CLOSE, HEADERS, MESSAGE, PLAIN, TRAILERS
from grpc_client import run
from lab import fields
from raw_client import case, connected, ended, last, message, reset, seen

PROTOCOL_ERROR, CANCEL = 1, 8
UNREACHABLE = ("raw.Refused", "raw.Silent", "raw.Unresolvable")
BAD_PATHS = [
    "/",
    "/raw.Raw",
    "/raw.Raw/",
    "//Call",
    "//raw.Raw/Call",
    "/raw.Raw//Call",
    "/raw.Raw/Call/",
    "/raw.Raw/Call/More",
    "/raw.Raw/../Call",
    "/raw.Raw/./Call",
    "/raw.Raw/..",
    "/./raw.Raw/Call",
    "/x/../raw.Raw/Call",
    "/raw.Raw/Ca%6cl",
    "/raw%2eRaw/Call",
    "/raw.Raw%2fCall",
    "/raw.Raw/Call?x=1",
    "/raw.Raw/Call?",
    "/raw.Raw/Call;v=1",
    "/raw-Raw/Call",
    "/raw.Raw/Call\\",
]
# Not paths at all: HTTP/2 may refuse them before gRPC sees them.
NO_PATHS = ["", "raw.Raw/Call", "*", "/raw.Raw/Ca ll", "http://parity.test/raw.Raw/Call"]


def statuses(at):
    """Each reply is one header block with nothing in it but what gRPC needs."""
    for path in ("/nowhere.Service/Method", "/raw.RawElse/Call", "/raw/Raw", "/Raw/Call", "/a/b"):
        expect = reply(12, f"no%20route%20for%20{path}", f"no route for {path}")
        at.through_only(f"no route for {path}", answer(at, path), expect)
        message = {"code": "UNIMPLEMENTED", "text": f"no route for {path}", "metadata": []}
        at.through_only(f"no route for {path}, with grpcio", library(at, path), message)
    for service in UNREACHABLE:
        expect = {
            "status": "14",
            "names the cluster": True,
            "names an address": False,
            "frames": ["HEADERS END_STREAM"],
        }
        at.through_only(f"{service}", unavailable(at, service), expect)
        with_library = {"code": "UNAVAILABLE", "names the cluster": True, "metadata": []}
        at.through_only(f"{service}, with grpcio", library(at, f"/{service}/Call"), with_library)
    expect = {"frames": ["HEADERS END_STREAM", "RST 0"], "status": "12"}
    at.through_only(
        "a client that has not half-closed", answer(at, "/nowhere.Service/Method", half_closes=False), expect
    )


def reply(status, encoded, text):
    block = [[":status", "200"], ["content-type", "application/grpc"], ["grpc-status", str(status)]]
    return {"frames": ["HEADERS END_STREAM"], "block": sorted(block), "status": str(status), "message": [encoded, text]}


def answer(at, path, half_closes=True):
    """What a request gets, and whether the backend saw it."""

    async def run(target):
        key = at.key("local")
        async with connected(target) as connection:
            stream = connection.open(key, PLAIN, path=path, end=half_closes)
            await (ended if half_closes else reset)(stream)
            found = last(stream)
            block = fields(found.items())
            return {
                "frames": seen(stream)["frames"],
                "block": [pair for pair in block if pair[0] != "grpc-message"],
                "http": found.get(":status"),
                "status": found.get("grpc-status"),
                "message": spellings(found.get("grpc-message", "")),
                "reached": bool(target.control.calls(key)),
            }

    return case(run)


def spellings(text):
    """A grpc-message with spaces encoded and not: both are allowed on the wire."""
    return [text.replace(" ", "%20"), text.replace("%20", " ")]


def unavailable(at, service):
    inner = answer(at, f"/{service}/Call")

    def one(target):
        result = inner(target)
        text = result["message"][1]
        return {
            "status": result["status"],
            "frames": result["frames"],
            "names the cluster": service in text,
            "names an address": any(part in text for part in at.direct.services[service].rsplit(":", 1)),
            "text": text,
        }

    return one


def library(at, path):
    def one(target):
        result = run(target, [["trailers", 0, "writes"]], "unary_unary", at.key("library"), path=path)
        text = result["message"]
        return {
            "code": result["code"],
            "text": text,
            "metadata": result["initial"] + result["trailing"],
            "names the cluster": path.split("/")[1] in text,
        }

    return one


def not_grpc(at):
    """A request without an application/grpc content-type gets HTTP 415, and never reaches a backend."""
    for content_type in ("text/html", "application/json", "application/x-protobuf", "application/grp", None):
        how = {"without": ["content-type"]} if content_type is None else {"content_type": content_type}
        at.through_only(f"content-type {content_type}", refused(at, **how), {"http": "415", "reached": False})


def refused(at, **how):
    async def run(target):
        key = at.key("refused")
        async with connected(target) as connection:
            stream = connection.open(key, PLAIN, end=True, **how)
            await ended(stream)
            found = last(stream)
            reached = bool(target.control.calls(key))
            return {
                "http": found.get(":status"),
                "status": found.get("grpc-status"),
                "reached": reached,
                **seen(stream),
            }

    return case(run)


def paths(at):
    """A path that is not /service/method is UNIMPLEMENTED; it is never made to fit."""
    for path in BAD_PATHS:
        expect = {"http": "200", "status": "12", "reached": False}
        at.through_only(f"path `{path}`", refused(at, path=path), expect)
    # The http crate drops what it takes for a fragment, before the gateway sees the path.
    at.through_only("path `/raw.Raw/Call#part`", refused(at, path="/raw.Raw/Call#part"), {"reached": True})
    for path in NO_PATHS:
        at.through_only(f"path `{path}`", refused(at, path=path), {"reached": False})


MALFORMED = {
    "connection": {"extra": [["connection", "close"]]},
    "keep-alive": {"extra": [["keep-alive", "timeout=5"]]},
    "proxy-connection": {"extra": [["proxy-connection", "close"]]},
    "transfer-encoding": {"extra": [["transfer-encoding", "chunked"]]},
    "upgrade": {"extra": [["upgrade", "h2c"]]},
    "te that is not trailers": {"te": "gzip"},
    "an uppercase name": {"extra": [["X-Upper", "1"]]},
    "a space in a name": {"extra": [["x name", "1"]]},
    "a colon in a name": {"extra": [["x:name", "1"]]},
    "an empty name": {"extra": [["", "1"]]},
    "NUL in a value": {"extra": [["x-value", "a\0b"]]},
    "a line break in a value": {"extra": [["x-value", "a\r\nb"]]},
    "no :method": {"without": [":method"]},
    "no :scheme": {"without": [":scheme"]},
    "no :path": {"without": [":path"]},
    "an unknown pseudo-header": {"extra": [[":unknown", "1"]]},
    "a response pseudo-header": {"extra": [[":status", "200"]]},
    "a pseudo-header twice": {"extra": [[":path", "/raw.Raw/Else"]]},
    "a pseudo-header after others": {"without": [":authority"], "extra": [[":authority", "late.test"]]},
    "content-length that is too small": {"extra": [["content-length", "1"]]},
    "content-length that is too large": {"extra": [["content-length", "1000"]]},
    "content-length that is no number": {"extra": [["content-length", "many"]]},
}


# The decoder of the h2 crate takes a field that it cannot represent for a broken header block, and ends the connection.
UNREPRESENTABLE = (
    "an uppercase name",
    "a space in a name",
    "a colon in a name",
    "an empty name",
    "NUL in a value",
    "a line break in a value",
    "an unknown pseudo-header",
)


def malformed(at):
    """A malformed request ends its stream (RFC 9113 8.1.1); the other calls of the connection go on."""
    for name, how in MALFORMED.items():
        expect = {"other call": ["HEADERS", "DATA 8", "HEADERS END_STREAM"], "goaway": [], "refused": True}
        if name in UNREPRESENTABLE:
            expect = {"goaway": [[1, PROTOCOL_ERROR]], "refused": True}
        at.through_only(name, beside(at, **how), expect)


def beside(at, **how):
    async def run(target):
        other, key = at.key("other"), at.key("malformed")
        async with connected(target) as connection:
            going = connection.open(other, [HEADERS, ["go"], MESSAGE, TRAILERS], end=True)
            await going.until(lambda: going.blocks)
            bad = connection.open(key, PLAIN, **how)
            await connection.peer.data(bad, message(), end=True)
            await ended(bad)
            await connection.go(other)
            await ended(going)
            calls = target.control.calls(key)
            answered = last(bad)
            return {
                "other call": seen(going)["frames"],
                "goaway": connection.peer.goaways,
                "refused": not any(call["half_closed"] for call in calls) and answered.get("grpc-status") != "0",
                "malformed call": seen(bad)["frames"],
            }

    return case(run)


def message_sizes(at):
    """A listener that limits single messages answers RESOURCE_EXHAUSTED with both sizes, and nothing smaller."""
    echo = [HEADERS, ["echo"], TRAILERS]
    small, large = message(b"s" * 1000), message(b"l" * 1001)
    fine = {"status": "0", "data": 1005}
    limited = {"limited": True}
    at.through_only("a request of the limit", sized(at, echo, small), fine, **limited)
    at.through_only(
        "many requests of the limit", sized(at, echo, small * 30), {"status": "0", "data": 30_150}, **limited
    )
    over = {"status": "8", "sizes": True, "rst": CANCEL}
    hold = ["await", "rst"]
    at.through_only("a request over the limit", sized(at, [hold], large), {"status": "8", "sizes": True}, **limited)
    at.through_only("a second request over the limit", sized(at, [HEADERS, hold], small + large), over, **limited)
    response = lambda *sizes: [HALF_CLOSE, HEADERS, *[["large", size] for size in sizes], hold]
    at.through_only(
        "a response of the limit", sized(at, [HALF_CLOSE, HEADERS, ["large", 1000], TRAILERS]), fine, **limited
    )
    at.through_only("a response over the limit", sized(at, response(1001)), over, **limited)
    at.through_only(
        "a second response over the limit", sized(at, response(1000, 1001)), {**over, "data": 1005}, **limited
    )
    unlimited = sized(at, [HALF_CLOSE, HEADERS, ["large", 1001], TRAILERS], large)
    at.both("no limit where none was set", unlimited, {"status": "0", "data": 1006})


def sized(at, script, payload=message()):
    async def run(target):
        key = at.key("sized")
        async with connected(target) as connection:
            stream = connection.open(key, script)
            await connection.peer.data(stream, payload, end=True)
            await ended(stream)
            found = last(stream)
            text = found.get("grpc-message", "")
            result = {"status": found.get("grpc-status"), "data": stream.data_bytes}
            if result["status"] == "8":
                calls = target.control.calls(key)
                if calls:
                    calls = await connection.wait(key, "rst")
                result |= {"sizes": "1001" in text and "1000" in text, "rst": calls[0]["rst"] if calls else None}
            return {**result, "text": text}

    return case(run)


SUITES = {
    "statuses": statuses,
    "not_grpc": not_grpc,
    "paths": paths,
    "malformed": malformed,
    "message_sizes": message_sizes,
}

if __name__ == "__main__":
    lab.main(SUITES)
