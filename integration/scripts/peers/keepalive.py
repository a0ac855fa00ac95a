"""Holds a call open with grpcio, which sends a keepalive ping every 100 ms, and prints how the call ended.

usage: keepalive.py HOST:PORT SECONDS-UNTIL-THE-DEADLINE
"""

import sys

import grpc


def main() -> None:
    target, seconds = sys.argv[1], float(sys.argv[2])
    options = [
        ("grpc.keepalive_time_ms", 100),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    with grpc.insecure_channel(target, options=options) as channel:
        hold = channel.unary_unary("/test.Echo/Do")
        try:
            hold(b"abc", metadata=[("x-do", "hold")], timeout=seconds)
            print("OK")
        except grpc.RpcError as error:
            print(error.code().name, error.details())


if __name__ == "__main__":
    main()
