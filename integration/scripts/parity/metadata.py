"""Metadata in both directions: with grpcio, and header list by header list."""

import base64

import grpc

import lab
from framing import HALF_CLOSE, HEADERS, MESSAGE, PLAIN, TRAILERS, whole_call
from grpc_client import KINDS, OPTIONS, caller, run
from raw_client import at_backend, case, connected, ended, seen

BYTES = bytes(range(256))
HOP_BY_HOP = [
    ["connection", "keep-alive"],
    ["keep-alive", "timeout=5"],
    ["proxy-connection", "keep-alive"],
    ["transfer-encoding", "chunked"],
    ["upgrade", "h2c"],
]


def library(at):
    """What grpcio sends and receives, and the complete header lists that the backend saw."""
    sent = {
        "one key": [("x-one", "1")],
        "a repeated key": [("x-many", "1"), ("x-other", "o"), ("x-many", "2"), ("x-many", "1")],
        "binary": [("x-bytes-bin", BYTES), ("x-empty-bin", b""), ("x-one-bin", b"\0")],
        "several binary values": [("x-bytes-bin", b"\0\1"), ("x-bytes-bin", b"\xff"), ("x-bytes-bin", b"")],
        "values with spaces, commas and marks": [("x-text", 'a, b;c="d"  e'), ("x-mark", "~!@#$%^&*()_+{}|:<>?[]\\;'")],
        "an empty value": [("x-empty", "")],
        "key characters": [("x_under-dash.dot0", "v")],
        "names that proxies like to set": [
            ("x-forwarded-for", "192.0.2.1"),
            ("via", "2 else"),
            ("forwarded", "for=192.0.2.1"),
            ("x-request-id", "mine"),
            ("x-envoy-attempt-count", "9"),
            ("date", "then"),
            ("server", "theirs"),
        ],
        "tracing and authorization": [
            ("authorization", "Bearer abc.def"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("grpc-tags-bin", b"\1\2"),
            ("grpc-previous-rpc-attempts", "2"),
            ("cookie", "a=b; c=d"),
        ],
        "200 keys": [(f"x-key-{i}", f"value {i}") for i in range(200)],
        "7 KB": [("x-long", "v" * 7000)],
    }
    for name, metadata in sent.items():
        at.both(f"request, {name}", request_metadata(at, metadata))
    for kind in KINDS:
        at.both(f"nothing but what the library sends, {kind}", request_metadata(at, [], kind))
    for name, pairs in wire(sent).items():
        # A name that only requests have is of no interest in a response.
        headers = ["headers", pairs]
        script = [HALF_CLOSE, headers, MESSAGE, ["trailers", 0, None, pairs]]
        at.both(f"response, {name}", caller(at, script, "unary_stream"))
        at.both(f"trailers-only, {name}", caller(at, [["trailers_only", 5, "none", pairs]], "unary_unary"))


def wire(sent):
    """Metadata as it looks on the wire."""

    def value(given):
        return base64.b64encode(given).decode().rstrip("=") if isinstance(given, bytes) else given

    return {name: [[key, value(given)] for key, given in pairs] for name, pairs in sent.items()}


def request_metadata(at, metadata, kind="unary_unary"):
    def one(target):
        key = at.key("metadata")
        result = run(target, PLAIN, kind, key, metadata=metadata)
        return {**result, **at_backend(target.control.calls(key)[0], without=())}

    return one


def fields_of_grpc(at):
    """The fields that belong to gRPC and HTTP/2 themselves, unchanged; and nothing beside them."""
    requests = {
        "plain": {},
        "content-type +json": {"content_type": "application/grpc+json"},
        "content-type +proto": {"content_type": "application/grpc+proto"},
        "content-type with a parameter": {"content_type": "application/grpc; charset=utf-8"},
        "an authority with a port": {":authority": "orders.example.com:8443"},
        "an https scheme": {":scheme": "https"},
        "user-agent": {"user_agent": "grpc-mine/1.0 (like others)"},
        "no te": {"without": ["te"]},
        "grpc-encoding": {"extra": [["grpc-encoding", "gzip"], ["grpc-accept-encoding", "identity,deflate,gzip"]]},
        "grpc-message-type": {"extra": [["grpc-message-type", "raw.Message"]]},
        "repeated keys between others": {"extra": [["x-a", "1"], ["x-b", "1"], ["x-a", "2"], ["x-b", "2"]]},
        "binary values in one field": {"extra": [["x-bin", "AAE,/w"], ["x-bin", "AA=="]]},
        "bytes above ASCII": {"extra": [["x-high", "caf\xe9 \xff"]]},
        "an empty value": {"extra": [["x-empty", ""]]},
        "content-length": {"extra": [["content-length", "7"]]},
        "cookie crumbs": {"extra": [["cookie", "a=b"], ["cookie", "c=d"]]},
        "a method with dots": {"path": "/raw.Raw/Get.All_2"},
    }
    for name, how in requests.items():
        at.both(f"request, {name}", whole_call(at, PLAIN, **how))
    responses = {
        "content-type +json": [[":status", "200"], ["content-type", "application/grpc+json"]],
        "grpc-encoding": [*HEADERS_LIST, ["grpc-encoding", "gzip"], ["grpc-accept-encoding", "gzip,zstd"]],
        "date and server": [*HEADERS_LIST, ["date", "Thu, 01 Jan 1970 00:00:00 GMT"], ["server", "raw"]],
        "repeated keys between others": [*HEADERS_LIST, ["x-a", "1"], ["x-b", "1"], ["x-a", "2"], ["x-b", "2"]],
        "bytes above ASCII": [*HEADERS_LIST, ["x-high", "caf\xe9 \xff"]],
        "set-cookie": [*HEADERS_LIST, ["set-cookie", "a=b"], ["set-cookie", "c=d"]],
    }
    for name, block in responses.items():
        at.both(f"response, {name}", whole_call(at, [HALF_CLOSE, ["raw_headers", block], MESSAGE, TRAILERS]))
    repeated = [["x-t", "1"], ["x-u", "1"], ["x-t", "2"], ["grpc-status-details-bin", "CAU"], ["x-t-bin", "AA,AQ"]]
    at.both("trailers", whole_call(at, [HALF_CLOSE, HEADERS, MESSAGE, ["trailers", 3, "a%20b", repeated]]))


HEADERS_LIST = [[":status", "200"], ["content-type", "application/grpc"]]


def hop_by_hop(at):
    """Fields of a connection do not cross."""
    for pair in HOP_BY_HOP:
        where = {
            "response headers": [HALF_CLOSE, ["headers", [pair]], MESSAGE, TRAILERS],
            "trailers": [HALF_CLOSE, HEADERS, MESSAGE, ["trailers", 0, None, [pair]]],
        }
        for name, script in where.items():
            at.through_only(f"{pair[0]} in {name}", crossed(at, script, pair[0]), {"crossed": False, "ended": True})
        at.through_only(
            f"{pair[0]} in a request", crossed(at, PLAIN, pair[0], [pair]), {"crossed": False, "ended": True}
        )


def crossed(at, script, name, extra=()):
    """Whether a field came through: to the client, or to the backend."""

    async def run(target):
        key = at.key("hop")
        async with connected(target) as connection:
            stream = await ended(await connection.call(key, script, extra=extra))
            received = [block for call in target.control.calls(key) for block in [call["headers"]]]
            lists = stream.blocks + (received if extra else [])
            found = any(field == name for block in lists for field, _ in block)
            return {"crossed": found, "ended": stream.ended or stream.reset is not None, **seen(stream)}

    return case(run)


def authority(at):
    """grpcio's own :authority, which is the address that it dialled, reaches the backend."""

    def one(target):
        key = at.key("authority")
        options = [option for option in OPTIONS if option[0] != "grpc.default_authority"]
        dialled = target.address("/raw.Raw/Call")
        with grpc.insecure_channel(dialled, options=options) as on:
            metadata = [("x-key", key)]
            on.unary_unary("/raw.Raw/Call")(b"hi", metadata=metadata, timeout=10)
        return {"unchanged": dict(target.control.calls(key)[0]["headers"])[":authority"] == dialled}

    at.both("the address that was dialled", one, {"unchanged": True})


SUITES = {"library": library, "fields_of_grpc": fields_of_grpc, "hop_by_hop": hop_by_hop, "authority": authority}

if __name__ == "__main__":
    lab.main(SUITES)
