"""A small gRPC server on OpenSSL and hyper-h2 that echoes what it gets and tells how its connections begin and end.

    openssl_server.py CERT KEY ALPN [VERSION] [CLIENT-CA] [once]

ALPN is a protocol's name, or `-` for none; VERSION is the only version of TLS that is spoken, such as `1.2`. With a client
CA it takes only clients that have a certificate of it; `-` is none. With `once` a connection ends right behind its first
answer. Prints
`listening PORT`, and for each connection `open VERSION ALPN resumed|fresh SERVER-NAME`, then `closed`: `notified` where
TLS said so, and `cut` where it did not.
"""

import socket
import ssl
import sys
import threading

import h2.config
import h2.connection
import h2.events

LOCK = threading.Lock()


def say(*words):
    with LOCK:
        print(*words, flush=True)


def serve(connection, once):
    http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    http2.initiate_connection()
    connection.sendall(http2.data_to_send())
    bodies = {}
    while data := connection.recv(65536):
        for event in http2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                bodies[event.stream_id] = b""
            elif isinstance(event, h2.events.DataReceived):
                bodies[event.stream_id] += event.data
                http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                stream = event.stream_id
                http2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
                http2.send_data(stream, bodies.pop(stream))
                http2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
                if once:
                    http2.close_connection(last_stream_id=stream)
                    connection.sendall(http2.data_to_send())
                    connection.unwrap()
                    return
        connection.sendall(http2.data_to_send())


def handle(context, raw, names, once):
    try:
        connection = context.wrap_socket(raw, server_side=True, suppress_ragged_eofs=False)
    except OSError as error:
        say("refused", error)
        return
    with connection:
        resumed = "resumed" if connection.session_reused else "fresh"
        say("open", connection.version(), connection.selected_alpn_protocol(), resumed, names.get(connection, "-"))
        try:
            serve(connection, once)
            say("closed", "notified")
        except (OSError, ValueError) as error:
            say("closed", "cut", error)


def main():
    cert, key, alpn, version, client_ca, times, *_ = *sys.argv[1:], "-", "-", "-"
    once = times == "once"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    names = {}
    context.sni_callback = lambda connection, name, _: names.__setitem__(connection, name or "-")
    if alpn != "-":
        context.set_alpn_protocols([alpn])
    if client_ca != "-":
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    if version != "-":
        only = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
        context.minimum_version = context.maximum_version = only
    listener = socket.create_server(("127.0.0.1", 0))
    say("listening", listener.getsockname()[1])
    while True:
        raw, _ = listener.accept()
        threading.Thread(target=handle, args=(context, raw, names, once), daemon=True).start()


if __name__ == "__main__":
    main()
