"""What every driver needs: where the backend and the gateway are, the control port, and how results are printed."""

import argparse
import itertools
import json
import os
import socket
import sys
import traceback

# Metadata that steers the backend; left out wherever header lists are compared.
STEERING = ("x-key", "x-script")


class Control:
    """The backend's control port (raw_backend.py, class Control)."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self._file = socket.create_connection((host, int(port)), timeout=30).makefile("rw")

    def _ask(self, **request):
        self._file.write(json.dumps(request) + "\n")
        self._file.flush()
        return json.loads(self._file.readline())

    def go(self, key, count=1):
        self._ask(do="go", key=key, count=count)

    def wait(self, key, condition, count=1, timeout=20):
        """The calls with this key, once `count` of them have reached a condition; fails after `timeout` seconds."""
        answer = self._ask(do="wait", key=key, count=count, timeout=timeout, **{"for": condition})
        if "error" in answer:
            seen = [(call["headers"], call["events"], call["steps"]) for call in answer["calls"][:5]]
            raise AssertionError(f"{answer['error']}; the backend saw {seen}")
        return answer["calls"]

    def calls(self, key):
        return self._ask(do="report", key=key)["calls"]


class Target:
    """One way to the backend: direct, or through a gateway."""

    def __init__(self, name, services, control, gateway=None):
        self.name = name
        self.services = services
        self.control = control
        self.gateway = gateway

    def address(self, path):
        service = path.rpartition("/")[0].lstrip("/")
        return self.services.get(service) or self.services["*"]


class Lab:
    """The ways to the backend, and the table of results on stdout: one JSON object a case."""

    def __init__(self, arguments):
        control = Control(arguments.control)
        gateways = json.loads(arguments.gateways)
        self.direct = Target("direct", json.loads(arguments.services), control)
        self.through = [Target(gateway["name"], {"*": gateway["grpc"]}, control, gateway) for gateway in gateways]
        self.limited = [Target(gateway["name"], {"*": gateway["limited"]}, control) for gateway in gateways]
        self._numbers = itertools.count()

    def key(self, name):
        """A key that no other call has."""
        return f"{name}-{os.getpid()}-{next(self._numbers)}"

    def both(self, case, run, expect=None, ignore=(), richer=()):
        """Runs a case direct and through every gateway.

        Every field of the results must be equal, but for those to ignore; lists that may be richer may go on through
        a gateway where they end direct. All results must have the fields that are expected.
        """
        direct = attempt(run, self.direct)
        self._print(case, run, self.through, expect, direct=direct, ignore=list(ignore), richer=list(richer))

    def through_only(self, case, run, expect, limited=False):
        """Runs a case that has no direct counterpart; on the listener that limits messages if asked to."""
        self._print(case, run, self.limited if limited else self.through, expect)

    def _print(self, case, run, targets, expect, **more):
        through = {target.name: attempt(run, target) for target in targets}
        print(json.dumps({"case": case, "expect": expect or {}, "through": through, **more}), flush=True)


def attempt(run, target):
    """The result of one run; what goes wrong becomes a field, so that the other cases still run."""
    try:
        return run(target)
    except Exception as error:  # noqa: BLE001
        lines = traceback.format_exception_only(error)
        where = traceback.extract_tb(error.__traceback__)[-1]
        return {"failed": f"{''.join(lines).strip()} ({os.path.basename(where.filename)}:{where.lineno})"}


def fields(headers, without=()):
    """A header list for comparison: sorted by name; the order of values of one name is kept."""
    skipped = (*STEERING, *without)
    return sorted([list(pair) for pair in headers or [] if pair[0] not in skipped], key=lambda pair: pair[0])


def main(suites):
    """Runs the suite that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("suite", choices=sorted(suites))
    parser.add_argument("--control", required=True)
    parser.add_argument("--services", required=True, help="JSON: service -> address of the backend")
    parser.add_argument(
        "--gateways", required=True, help="JSON: a list of name, pid, grpc, limited and admin (addresses)"
    )
    arguments = parser.parse_args()
    suites[arguments.suite](Lab(arguments))
    sys.stdout.flush()
    # grpcio's threads of calls that were never read to their end would keep the process.
    os._exit(0)
