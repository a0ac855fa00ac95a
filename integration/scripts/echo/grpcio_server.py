"""A grpcio server that echoes what it gets: under TLS on a port of its own, or in plaintext on a Unix socket.

    grpcio_server.py CERT KEY [CLIENT-CA]
    grpcio_server.py unix:PATH

With a client CA it takes only clients that have a certificate of it. Prints `listening PORT`.
"""

import pathlib
import sys
import threading
from concurrent import futures

import grpc

OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]


def echo(requests, _):
    yield from requests


def secured(cert, key, client_ca=None):
    pair = (pathlib.Path(key).read_bytes(), pathlib.Path(cert).read_bytes())
    ca = pathlib.Path(client_ca).read_bytes() if client_ca else None
    return grpc.ssl_server_credentials([pair], root_certificates=ca, require_client_auth=ca is not None)


def main():
    server = grpc.server(futures.ThreadPoolExecutor(8), options=OPTIONS)
    handlers = {"Echo": grpc.stream_stream_rpc_method_handler(echo)}
    serving = {"Check": grpc.unary_unary_rpc_method_handler(lambda *_: b"\x08\x01")}
    services = {"weir.Load": handlers, "grpc.health.v1.Health": serving}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(*pair) for pair in services.items()])
    if sys.argv[1].startswith("unix:"):
        port = server.add_insecure_port(sys.argv[1])
    else:
        port = server.add_secure_port("127.0.0.1:0", secured(*sys.argv[1:]))
    server.start()
    print("listening", port, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
