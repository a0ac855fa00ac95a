"""Calls the greeter at the address in the first argument, once unary and once as a stream."""

import pathlib
import sys

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
messages, services = grpc.protos_and_services("hello.proto")

NAMES = ["Guido", "Barry", "Tim"]
SECONDS = 10  # for a call; an unanswered one must not hang the script


def main():
    with grpc.insecure_channel(sys.argv[1]) as channel:
        greeter = services.GreeterStub(channel)

        text = greeter.Greet(messages.Name(name="Python"), timeout=SECONDS).text
        print(f"python: {text}")
        assert text == "Hello, Python!"

        names = iter([messages.Name(name=name) for name in NAMES])
        texts = [greeting.text for greeting in greeter.GreetEach(names, timeout=SECONDS)]
        print(f"python: {' '.join(texts)}")
        assert texts == [f"Hello, {name}!" for name in NAMES]


main()
