"""The parity table with grpcio: how a call ends, whatever the backend does."""

import base64

import lab
from grpc_client import KINDS, caller

INTERNAL_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 2, 7, 8, 11
RESET_CODES = range(14)
MESSAGE = ["message", "one"]
# The first half of a message of ten bytes.
HALF = ["data", base64.b64encode(b"\0\0\0\0\x0ahalf.").decode()]
UTF8 = "caf%C3%A9 %E2%82%AC %F0%9F%98%80 100%25 a%0Ab"
DETAILS = ["grpc-status-details-bin", base64.b64encode(b"\x08\x05\x12\x03abc\xff\x00").decode().rstrip("=")]


def statuses(at):
    """Every status in trailers and in a trailers-only response."""
    for code in range(17):
        for kind in KINDS:
            first = [["await", "half-close"], ["headers", [["x-first", "1"]]], MESSAGE]
            end = ["trailers", code, f"status {code} {UTF8}", [["x-last", "2"], DETAILS]]
            # grpcio shows no message beside OK.
            expect = {"message": spelt(code) if code else ""}
            at.both(f"status {code} in trailers, {kind}", caller(at, [*first, end], kind), expect)
        only = [["await", "half-close"], ["trailers_only", code, f"status {code} {UTF8}", [["x-only", "1"], DETAILS]]]
        at.both(f"status {code}, trailers-only", caller(at, only, "unary_stream"), expect)
    for name, text in {"no": None, "empty": "", "spaced": "a  b", "not decodable": "100%", "half": "%E2%82"}.items():
        for word in ("trailers", "trailers_only"):
            script = [*([["headers"]] if word == "trailers" else []), [word, 5, text]]
            at.both(f"{name} message, {word}", caller(at, script, "unary_stream"), {"code": "NOT_FOUND"})
    at.both("status 17, which does not exist", caller(at, [["headers"], ["trailers", 17, "?"]], "unary_stream"))
    at.both("a long message", caller(at, [["headers"], ["trailers", 9, "m" * 5000]], "unary_stream"))


def spelt(code):
    return f"status {code} café € 😀 100% a\nb"


def resets(at):
    """Every RST code at every point of a response, for every shape of client."""
    wanted = {INTERNAL_ERROR: "INTERNAL", CANCEL: "CANCELLED", ENHANCE_YOUR_CALM: "RESOURCE_EXHAUSTED"}
    for code in RESET_CODES:
        for point, (before, seen) in points().items():
            if code == REFUSED_STREAM and point == "before headers":
                continue  # Retried: see `refusals`.
            expect = {"code": wanted[code]} if code in wanted else {}
            faults(at, f"RST {code} {point}", before, seen, ["rst", code], expect)


def losses(at):
    """The TCP connection ends at every point of a response, for every shape of client."""
    for word in ("close", "abort"):
        for point, (before, seen) in points().items():
            # Inside a message there is no RST code that means UNAVAILABLE and would be honest.
            ignore = ("code",) if point == "inside a message" else ()
            faults(at, f"TCP {word} {point}", before, seen, [word], {} if ignore else {"code": "UNAVAILABLE"}, ignore)


def points():
    """Where a fault may strike: what the backend has sent by then, and the messages that the client has seen."""
    headers = ["headers", [["x-first", "1"]]]
    return {
        "before headers": ([], None),
        "after headers": ([headers], 0),
        "after a message": ([headers, MESSAGE], 1),
        "inside a message": ([headers, ["cork"], MESSAGE, HALF, ["uncork"]], 1),
    }


def faults(at, name, before, seen, fault, expect, ignore=()):
    """One fault, for every shape of client: those that see everything before it, and one that it takes unawares."""
    awaited = [["await", "messages", 1], *before, ["go"], fault]
    first = seen if seen is not None else None
    shapes = {
        "unary": ("unary_unary", {"reads": False, "read_first": 0}),
        "reading": ("unary_stream", {"read_first": first} if first is not None else {"read_first": 0, "reads": False}),
        "not reading": ("unary_stream", {"read_first": 0, "reads": False}),
        "sending": ("stream_stream", {"read_first": first} if first is not None else {"read_first": 0, "reads": False}),
    }
    for shape, (kind, how) in shapes.items():
        # A client that reads late finds what came before a lost connection only if a gateway kept it.
        richer = ("messages",) if shape == "not reading" and fault[0] != "rst" else ()
        run_one = caller(at, awaited, kind, endless=shape == "sending", **how)
        at.both(f"{name}, {shape}", run_one, expect, ignore, richer)
    # Everything in one piece: grpcio may drop what it had not read when a reset comes, direct as well.
    at_once = [["await", "messages", 1], ["cork"], *[step for step in before if len(step) > 1], fault, ["uncork"]]
    if fault[0] == "rst":
        at.both(f"{name}, at once", caller(at, at_once, "unary_stream"), expect, ("messages", "initial"))


SUITES = {"statuses": statuses, "resets": resets, "losses": losses}

if __name__ == "__main__":
    lab.main(SUITES)
