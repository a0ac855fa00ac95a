"""A grpcio client: calls that are echoed, under TLS with what it asks for in the certificate's place, or in plaintext.

    grpcio_client.py ADDRESS [CA NAME [CERT KEY]]

Makes unary calls of several sizes and one stream, and prints `good`; or prints `STATUS: DETAILS` of the first call that failed.
"""

import os
import pathlib
import sys

import grpc


def connect(address, ca=None, name=None, cert=None, key=None):
    options = [("grpc.max_receive_message_length", -1)]
    if not ca:
        return grpc.insecure_channel(address, options)
    own = (pathlib.Path(key).read_bytes(), pathlib.Path(cert).read_bytes()) if cert else (None, None)
    credentials = grpc.ssl_channel_credentials(pathlib.Path(ca).read_bytes(), *own)
    return grpc.secure_channel(address, credentials, [("grpc.ssl_target_name_override", name), *options])


def main():
    with connect(*sys.argv[1:]) as channel:
        echo = channel.unary_unary("/weir.Load/Echo")
        try:
            for size in [0, 1, 16384, 5_000_000]:
                message = os.urandom(size)
                assert echo(message, timeout=50) == message, f"{size} bytes came back otherwise"
            replies = list(channel.stream_stream("/weir.Load/Echo")(iter([b"a"] * 100), timeout=50))
            assert replies == [b"a"] * 100
            print("good", flush=True)
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}", flush=True)


if __name__ == "__main__":
    main()
