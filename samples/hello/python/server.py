"""A gRPC server like any other: it does not know that a gateway stands in front of it."""

import pathlib
import sys
from concurrent import futures

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
messages, services = grpc.protos_and_services("hello.proto")


class Greeter(services.GreeterServicer):
    def Greet(self, request, context):
        return messages.Greeting(text=f"Hello, {request.name}!")

    def GreetEach(self, requests, context):
        for request in requests:
            yield self.Greet(request, context)


def main():
    wanted = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    services.add_GreeterServicer_to_server(Greeter(), server)
    port = server.add_insecure_port(wanted)
    server.start()
    # run.sh reads this line: with port 0 in `wanted`, the kernel has chosen.
    print(f"serving on port {port}", flush=True)
    server.wait_for_termination()


main()
