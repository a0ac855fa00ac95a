"""Calls with grpcio, bytes in and out, and their results as plain fields."""

import itertools
import json
import threading
import time

import grpc

PATIENCE = 20
OPTIONS = [
    ("grpc.default_authority", "parity.test"),
    # Each channel connects by itself: no back-off that an earlier case left behind.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_metadata_size", 2**20),
    ("grpc.absolute_max_metadata_size", 2**20),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def channel(target, path="/raw.Raw/Call", options=()):
    return grpc.insecure_channel(target.address(path), options=[*OPTIONS, *options])


def script_metadata(key, script):
    """What steers the backend. ASCII only, as metadata must be."""
    return [("x-key", key), ("x-script", json.dumps(script))]


def writes_message(script):
    """Whether the backend itself writes a status message: only then is it the same direct and through."""
    words = json.dumps(script)
    if "grpc-message" in words:
        return True
    return any(
        (step[0] in ("trailers", "trailers_only") and len(step) > 2 and step[2] is not None)
        or (step[0] == "attempts" and any(writes_message(inner) for inner in step[1:]))
        for step in script
    )


def text(value):
    return "hex:" + value.hex() if isinstance(value, bytes) else value


def metadata(pairs):
    """Metadata for comparison: sorted by key; the order of the values of one key is kept."""
    return sorted([[key, text(value)] for key, value in pairs or ()], key=lambda pair: pair[0])


def brief(message):
    """A message, or what it is made of when it is long."""
    if len(message) <= 64:
        return message.decode("latin-1")
    return f"{len(message)} bytes of {sorted(set(message[:4096]))[:4]}"


def counted(messages):
    """A long list of messages in few words; the order still counts."""
    return [f"{len(list(run))} times `{text}`" for text, run in itertools.groupby(messages)]


class Requests:
    """Requests: first those given, then either the end, or the last one again and again until `stop`."""

    def __init__(self, first, endless=False):
        self.first = list(first)
        self.endless = endless
        self._stop = threading.Event()

    def __iter__(self):
        yield from self.first
        while self.endless and not self._stop.wait(0.001):
            yield b"r" * 1000

    def stop(self):
        self._stop.set()


class Held:
    """Requests that leave one by one as the case says, and whose end it says too."""

    def __init__(self):
        self._ready = threading.Condition()
        self._items = []
        self._ended = False

    def send(self, item):
        with self._ready:
            self._items.append(item)
            self._ready.notify()

    def end(self):
        with self._ready:
            self._ended = True
            self._ready.notify()

    stop = end

    def __iter__(self):
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._items or self._ended)
                if not self._items:
                    return
                item = self._items.pop(0)
            yield item


def start(on, kind, requests=(b"hi",), path="/raw.Raw/Call", metadata=(), timeout=None):
    """Starts a call of one of the four kinds on a channel."""
    method = getattr(on, kind)(path, request_serializer=None, response_deserializer=None)
    begin = method.future if kind.endswith("_unary") else method
    first = requests[0] if kind.startswith("unary") else iter(requests)
    return begin(first, metadata=metadata, timeout=timeout)


class Patience:
    """Cancels a call that hangs, and says so."""

    def __init__(self, call):
        self.expired = False
        self._call = call
        self._timer = threading.Timer(PATIENCE, self._expire)
        self._timer.daemon = True

    def _expire(self):
        self.expired = True
        self._call.cancel()

    def __enter__(self):
        self._timer.start()
        return self

    def __exit__(self, *error):
        self._timer.cancel()
        if self.expired:
            raise AssertionError(f"the call hangs: {PATIENCE} s without a status") from error[1]


def read(call, into):
    """Reads the messages that are left; how the call ended is in its status."""
    try:
        for message in call:
            into.append(brief(message))
    except grpc.RpcError:
        pass


def let_end(call):
    """Leaves an unread call the time to end. One that ends with trailers does not end before it is read."""
    end = time.monotonic() + 0.1
    while not call.done() and time.monotonic() < end:
        time.sleep(0.001)


def outcome(call, kind, messages, script):
    """Status, metadata and messages of a call that has ended."""
    code = call.code()
    if kind.endswith("_unary") and code == grpc.StatusCode.OK:
        messages = [brief(call.result())] if call.result() is not None else []
    result = {"code": code.name, "messages": messages if len(messages) <= 20 else counted(messages)}
    if writes_message(script):
        result["message"] = call.details()
    result["initial"] = metadata(call.initial_metadata())
    result["trailing"] = metadata(call.trailing_metadata())
    return result


def run(target, script, kind="unary_unary", key=None, read_first=None, reads=True, **how):
    """One call on a channel of its own, from start to status.

    `read_first`: the script has a `go`, which comes when the client has seen this many messages (0: the initial
    metadata). With `reads` false, or in a unary call, it comes when the backend is there, and the client reads nothing
    before it has the status.
    """
    requests = how.pop("requests", (b"hi",))
    extra = how.pop("metadata", ())
    messages = []
    with channel(target, how.get("path", "/raw.Raw/Call"), how.pop("options", ())) as on:
        call = start(on, kind, requests, metadata=[*script_metadata(key, script), *extra], **how)
        try:
            with Patience(call):
                if read_first is not None:
                    if reads and kind.endswith("_stream"):
                        call.initial_metadata()
                        messages += [brief(next(call)) for _ in range(read_first)]
                    else:
                        target.control.wait(key, ["step", "at go"])
                    target.control.go(key)
                if not reads:
                    let_end(call)
                if kind.endswith("_stream"):
                    read(call, messages)
                return outcome(call, kind, messages, script)
        finally:
            if hasattr(requests, "stop"):
                requests.stop()


def caller(at, script, kind, endless=False, requests=(b"hi",), **how):
    """A function that makes one call at a target, for Lab.both."""

    def one(target):
        sent = Requests(requests, endless) if kind.startswith("stream") else requests
        return run(target, script, kind, at.key("call"), requests=sent, **how)

    return one


def simple(on, at):
    """The code of an ordinary unary call on a channel."""
    return start(on, "unary_unary", metadata=[("x-key", at.key("simple"))], timeout=20).code().name
