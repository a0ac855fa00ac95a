"""One end of an HTTP/2 connection at the level of frames.

It keeps only the rules that it needs to stay connected (SETTINGS, PING, flow control). Everything else, and above all
everything that a library would refuse to send, is up to its user.
"""

import asyncio
import socket
import struct

from hpack import Decoder, Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_TABLE_SIZE, MAX_CONCURRENT, INITIAL_WINDOW, MAX_FRAME, MAX_HEADER_LIST = 1, 3, 4, 5, 6
DEFAULT_WINDOW = 65_535
LARGEST_WINDOW = 2**31 - 1
READ_SIZE = 256 * 1024


class Gone(Exception):
    """The stream or its connection ended before what was waited for."""


class Signal:
    """Wakes those who wait for a condition whenever it may have changed."""

    def __init__(self):
        self._next = None

    def notify(self):
        if self._next is not None:
            if not self._next.done():
                self._next.set_result(None)
            self._next = None

    async def until(self, condition):
        while not condition():
            if self._next is None:
                self._next = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._next)


class Stream:
    """What one stream received, in order, and its windows."""

    def __init__(self, peer, number):
        self.peer = peer
        self.number = number
        self.signal = Signal()
        self.blocks = []
        self.events = []
        self.data = bytearray()
        self.data_bytes = 0
        self.messages = 0
        self.ended = False
        self.reset = None
        self.sent_bytes = 0
        self.reading = True
        self.keep_data = True
        self.send_window = peer.initial_send_window
        self._prefix = bytearray()
        self._body_left = 0

    @property
    def headers(self):
        return self.blocks[0] if self.blocks else None

    @property
    def gone(self):
        return self.reset is not None or self.peer.lost

    def changed(self):
        self.signal.notify()
        self.peer.signal.notify()

    async def until(self, condition):
        """Waits for a condition; raises Gone when it can no longer come true."""
        await self.signal.until(lambda: condition() or self.gone)
        if not condition():
            raise Gone()

    def take_data(self, payload, ended):
        self.data_bytes += len(payload)
        if self.keep_data:
            self.data += payload
        self._count_messages(payload)
        if self.events and not ended and self.events[-1].startswith("DATA ") and self.events[-1][5:].isdigit():
            self.events[-1] = f"DATA {int(self.events[-1][5:]) + len(payload)}"
        else:
            self.events.append(f"DATA {len(payload)}" + (" END_STREAM" if ended else ""))

    def _count_messages(self, payload):
        at = 0
        while at < len(payload):
            if self._body_left:
                step = min(self._body_left, len(payload) - at)
                self._body_left -= step
                at += step
            else:
                step = min(5 - len(self._prefix), len(payload) - at)
                self._prefix += payload[at : at + step]
                at += step
                if len(self._prefix) < 5:
                    return
                (self._body_left,) = struct.unpack(">I", self._prefix[1:])
                self._prefix.clear()
                self.messages += self._body_left == 0
                continue
            self.messages += self._body_left == 0


class Http2Peer:
    """A connection. `on_stream` is called with each stream that the other side opens."""

    def __init__(self, reader, writer, settings, on_stream=None, is_client=False):
        self.reader, self.writer = reader, writer
        self.on_stream = on_stream
        self.is_client = is_client
        self.signal = Signal()
        self.settings = settings
        self.streams = {}
        self.lost = False
        self.goaways = []
        self.pings = []
        self.answers_pings = True
        self.peer_settings = {}
        self.settings_acks = 0
        self.send_window = DEFAULT_WINDOW
        self.initial_send_window = DEFAULT_WINDOW
        self.max_frame = 16_384
        self.next_number = 1
        self.encoder = Encoder()
        self.decoder = Decoder(max_header_list_size=2**24)
        self.blocked = set()
        self._corked = None
        self._header_block = None

    # === Sending ===

    def start(self):
        """Sends the preface and starts to read; returns the task that reads."""
        self.cork()
        if self.is_client:
            self.write(PREFACE)
        self.frame(SettingsFrame(0, settings=self.settings))
        self.frame(WindowUpdateFrame(0, window_increment=LARGEST_WINDOW - DEFAULT_WINDOW))
        self.uncork()
        return asyncio.ensure_future(self._read())

    def write(self, data):
        if self._corked is not None:
            self._corked += data
        elif not self.lost and not self.writer.is_closing():
            self.writer.write(data)

    def cork(self):
        """Holds what is written until `uncork`, so that it leaves in one system call."""
        if self._corked is None:
            self._corked = bytearray()

    def uncork(self):
        held, self._corked = self._corked, None
        if held:
            self.write(bytes(held))

    def frame(self, frame):
        self.write(frame.serialize())

    def headers(self, number, fields, end=False):
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
        block = self.encoder.encode(pairs)
        pieces = [block[i : i + self.max_frame] for i in range(0, len(block), self.max_frame)] or [b""]
        first = HeadersFrame(number, data=pieces[0], flags=["END_STREAM"] if end else [])
        frames = [first] + [ContinuationFrame(number, data=piece) for piece in pieces[1:]]
        frames[-1].flags.add("END_HEADERS")
        self.write(b"".join(frame.serialize() for frame in frames))

    async def data(self, stream, payload, end=False, padding=0):
        """Sends DATA as the windows allow. A piece is at most one frame; an empty payload is one empty frame."""
        at = 0
        while True:
            left = len(payload) - at
            room = lambda: min(stream.send_window, self.send_window) > padding
            if left and not room():
                await self._window(stream, room)
            size = min(left, stream.send_window - padding, self.send_window - padding, self.max_frame - padding - 1)
            size = max(size, 0)
            last = at + size == len(payload)
            frame = DataFrame(stream.number, data=payload[at : at + size], pad_length=padding)
            if end and last:
                frame.flags.add("END_STREAM")
            if padding:
                frame.flags.add("PADDED")
            self._spend(stream, frame.flow_controlled_length if padding else size, size)
            self.frame(frame)
            at += size
            if last:
                return

    async def shredded(self, stream, payload, chunk):
        """Sends a payload in DATA frames of `chunk` bytes, as many at a time as the windows allow."""
        at = 0
        while at < len(payload):
            await self._window(stream, lambda: min(stream.send_window, self.send_window) >= chunk)
            count = min(stream.send_window, self.send_window) // chunk
            part = payload[at : at + count * chunk]
            self._spend(stream, len(part), len(part))
            head = struct.pack(">BHBBI", 0, chunk, 0, 0, stream.number)
            whole = len(part) - len(part) % chunk
            frames = [head + part[i : i + chunk] for i in range(0, whole, chunk)]
            if whole < len(part):
                frames.append(DataFrame(stream.number, data=part[whole:]).serialize())
            self.write(b"".join(frames))
            at += len(part)

    async def _window(self, stream, room):
        self.blocked.add(stream)
        try:
            await stream.until(room)
        finally:
            self.blocked.discard(stream)

    def _spend(self, stream, window, size):
        stream.send_window -= window
        self.send_window -= window
        stream.sent_bytes += size

    def open_window(self, stream, size):
        self.frame(WindowUpdateFrame(stream.number, window_increment=size))

    def rst(self, number, code):
        self.frame(RstStreamFrame(number, error_code=code))

    def answer_ping(self):
        """Answers the oldest PING that has no answer yet."""
        self.frame(PingFrame(0, opaque_data=self.pings.pop(0), flags=["ACK"]))

    def send_goaway(self, last, code=0):
        self.frame(GoAwayFrame(0, last_stream_id=last, error_code=code))

    def send_settings(self, settings):
        self.frame(SettingsFrame(0, settings=settings))

    def close(self):
        self.writer.close()

    def abort(self):
        """Ends the connection with a TCP RST."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def open(self, fields, end=False):
        """Opens a stream as a client."""
        stream = Stream(self, self.next_number)
        self.next_number += 2
        self.streams[stream.number] = stream
        self.headers(stream.number, fields, end)
        return stream

    # === Receiving ===

    async def _read(self):
        held = bytearray()
        try:
            if not self.is_client:
                await self.reader.readexactly(len(PREFACE))
            while data := await self.reader.read(READ_SIZE):
                held += data
                self.cork()
                at = 0
                while len(held) - at >= 9:
                    frame, size = Frame.parse_frame_header(memoryview(held)[at : at + 9])
                    if len(held) - at < 9 + size:
                        break
                    frame.parse_body(memoryview(bytes(held[at + 9 : at + 9 + size])))
                    at += 9 + size
                    self._take(frame)
                del held[:at]
                self.uncork()
        except (ConnectionError, asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self.lost = True
            for stream in self.streams.values():
                over = stream.reset is not None or (self.is_client and stream.ended)
                if not over:
                    stream.events.append("CONNECTION LOST")
                stream.signal.notify()
            self.signal.notify()
            self.writer.close()

    def _take(self, frame):
        if isinstance(frame, DataFrame):
            self._take_data(frame)
        elif isinstance(frame, HeadersFrame):
            self._header_block = (frame.stream_id, bytearray(frame.data), "END_STREAM" in frame.flags)
            self._take_block(frame)
        elif isinstance(frame, ContinuationFrame):
            self._header_block[1].extend(frame.data)
            self._take_block(frame)
        elif isinstance(frame, RstStreamFrame):
            if stream := self.streams.get(frame.stream_id):
                stream.reset = frame.error_code
                stream.events.append(f"RST {frame.error_code}")
                stream.changed()
        elif isinstance(frame, WindowUpdateFrame):
            self._take_window(frame)
        elif isinstance(frame, SettingsFrame):
            self._take_settings(frame)
        elif isinstance(frame, PingFrame) and "ACK" not in frame.flags:
            self.pings.append(frame.opaque_data)
            if self.answers_pings:
                self.answer_ping()
            self.signal.notify()
        elif isinstance(frame, GoAwayFrame):
            self.goaways.append([frame.last_stream_id, frame.error_code])
            self.signal.notify()
            for stream in self.streams.values():
                stream.signal.notify()

    def _take_block(self, frame):
        if "END_HEADERS" not in frame.flags:
            return
        number, block, ended = self._header_block
        fields = [
            [name.decode("latin-1"), value.decode("latin-1")]
            for name, value in self.decoder.decode(bytes(block), raw=True)
        ]
        stream = self.streams.get(number)
        opened = stream is None
        if opened:
            stream = self.streams[number] = Stream(self, number)
        stream.blocks.append(fields)
        stream.events.append("HEADERS" + (" END_STREAM" if ended else ""))
        stream.ended |= ended
        stream.changed()
        if opened and self.on_stream:
            self.on_stream(stream)

    def _take_data(self, frame):
        stream = self.streams.get(frame.stream_id)
        if stream is None:
            return
        ended = "END_STREAM" in frame.flags
        stream.take_data(bytes(frame.data), ended)
        stream.ended |= ended
        spent = frame.flow_controlled_length
        if spent:
            self.frame(WindowUpdateFrame(0, window_increment=spent))
            if stream.reading and not ended:
                self.frame(WindowUpdateFrame(frame.stream_id, window_increment=spent))
        stream.changed()

    def _take_window(self, frame):
        if frame.stream_id == 0:
            self.send_window += frame.window_increment
            for stream in self.blocked:
                stream.signal.notify()
        elif stream := self.streams.get(frame.stream_id):
            stream.send_window += frame.window_increment
            stream.signal.notify()

    def _take_settings(self, frame):
        if "ACK" in frame.flags:
            self.settings_acks += 1
            self.signal.notify()
            return
        self.peer_settings.update(frame.settings)
        if INITIAL_WINDOW in frame.settings:
            change = frame.settings[INITIAL_WINDOW] - self.initial_send_window
            self.initial_send_window += change
            for stream in self.streams.values():
                stream.send_window += change
                stream.signal.notify()
        self.max_frame = frame.settings.get(MAX_FRAME, self.max_frame)
        if HEADER_TABLE_SIZE in frame.settings:
            self.encoder.header_table_size = frame.settings[HEADER_TABLE_SIZE]
        self.frame(SettingsFrame(0, flags=["ACK"]))
        self.signal.notify()


async def connect(address, settings=None):
    """Connects as a client."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    peer = Http2Peer(reader, writer, settings or {}, is_client=True)
    peer.start()
    return peer
