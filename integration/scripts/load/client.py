"""A grpcio client for the load tests. Messages are plain bytes: no service definition is needed.

    client.py large ADDRESS SIZE...   a unary call with a message of each size, echoed whole
    client.py empty ADDRESS COUNT     so many empty messages on one stream, echoed
    client.py hold ADDRESS STREAMS    opens streams, prints `open` once each was answered, and keeps them
    client.py keep ADDRESS STREAMS    the same, and after SIGUSR1 has a message echoed on each and ends it
    client.py stall ADDRESS STREAMS   opens endless streams, prints `open` once each has sent something, reads no more
    client.py drink ADDRESS STREAMS   opens endless streams, prints `open` once each has sent something, reads them all
    client.py calls ADDRESS COUNT     prints `open` when it is ready, and makes unary calls, on a connection made then,
                                      after SIGUSR1
    client.py chat ADDRESS            talks on one stream until it ends, prints how many messages came back, whether all were
                                      whole and in order, the status and the pushback
    client.py late ADDRESS COUNT      makes unary calls, one after another, none of which is answered in its time
"""

import os
import queue
import signal
import sys
import threading

import grpc

UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def large(channel, *sizes):
    echo = channel.unary_unary("/weir.Load/Echo")
    for size in map(int, sizes):
        # Not one byte repeated: a piece that is lost or swapped must show.
        message = os.urandom(size)
        assert echo(message) == message, f"{size} bytes came back otherwise"


def empty(channel, count):
    count = int(count)
    replies = list(channel.stream_stream("/weir.Load/Echo")(iter([b""] * count)))
    assert replies == [b""] * count, f"{len(replies)} messages came back"


def hold(channel, streams):
    open_streams = []
    for _ in range(int(streams)):
        requests = queue.SimpleQueue()
        requests.put(b"open")
        replies = channel.stream_stream("/weir.Load/Echo")(iter(requests.get, None))
        assert next(replies) == b"open"
        open_streams.append((requests, replies))
    print("open", flush=True)
    threading.Event().wait()


def keep(channel, streams):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    open_streams = []
    for _ in range(int(streams)):
        requests = queue.SimpleQueue()
        requests.put(b"open")
        replies = channel.stream_stream("/weir.Load/Echo")(iter(requests.get, None))
        assert next(replies) == b"open"
        open_streams.append((requests, replies))
    print("open", flush=True)
    signal.sigwait({signal.SIGUSR1})
    for requests, replies in open_streams:
        requests.put(b"still here")
        assert next(replies) == b"still here"
        requests.put(None)
        assert list(replies) == []


def stall(channel, streams):
    endless = channel.unary_stream("/weir.Load/Endless")
    open_streams = [endless(b"") for _ in range(int(streams))]
    for replies in open_streams:
        next(replies)
    print("open", flush=True)
    threading.Event().wait()


def drink(channel, streams):
    endless = channel.unary_stream("/weir.Load/Endless")
    readers = []
    for replies in [endless(b"") for _ in range(int(streams))]:
        next(replies)
        readers.append(threading.Thread(target=lambda replies=replies: [None for _ in replies]))
    print("open", flush=True)
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()


def calls(channel, count):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    print("open", flush=True)
    signal.sigwait({signal.SIGUSR1})
    echo = channel.unary_unary("/weir.Load/Echo")
    for number in range(int(count)):
        message = str(number).encode()
        assert echo(message, timeout=30) == message


def chat(channel):
    requests = queue.SimpleQueue()
    replies = channel.stream_stream("/weir.Load/Echo")(iter(requests.get, None))
    whole = True
    count = 0
    try:
        while True:
            message = b"%d:" % count + os.urandom(70_000)
            requests.put(message)
            whole = next(replies) == message and whole
            count += 1
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata())
        print("ended", count, whole, error.code().name, trailers.get("grpc-retry-pushback-ms"), flush=True)
    except StopIteration:
        print("ended", count, whole, "OK", flush=True)
    requests.put(None)


def late(channel, count):
    echo = channel.unary_unary("/weir.Load/Echo")
    for _ in range(int(count)):
        try:
            echo(b"", timeout=0.3)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
        else:
            raise AssertionError("it was answered")


COMMANDS = {command.__name__: command for command in (large, empty, hold, keep, stall, drink, calls, chat, late)}


def main():
    command, address, *arguments = sys.argv[1:]
    with grpc.insecure_channel(address, options=UNLIMITED) as channel:
        COMMANDS[command](channel, *arguments)


if __name__ == "__main__":
    main()
