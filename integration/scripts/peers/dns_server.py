"""A DNS server on 127.0.0.1 whose zone is a file that is read anew for every question.

usage: dns_server.py ZONE

It prints its port, and then a line for every question: `udp A name.`. A line of the zone is a record as zone files have
it, or says how questions go wrong: `!SERVFAIL name. TYPE`, with any code, or `!SILENT name. TYPE`; with a number behind
it, only so many times.
"""

import sys
import threading

from dnslib import QTYPE, RCODE, RR, DNSError
from dnslib.server import DNSLogger, DNSServer, TCPServer, UDPServer

# What a server may send by UDP to whoever does not say more (RFC 1035).
UDP_LENGTH = 512


class Zone:
    """Answers by the file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.text = ""
        self.used: dict[str, int] = {}
        # Every question has a thread of its own.
        self.alone = threading.Lock()

    def read(self) -> list[str]:
        with open(self.path, encoding="ascii") as file:
            text = file.read()
        if text != self.text:
            self.text, self.used = text, {}
        return [line for line in text.splitlines() if line.strip()]

    def wrong(self, lines: list[str], name: str, kind: str) -> str | None:
        for line in lines:
            code, *rest = line.removeprefix("!").split()
            if line.startswith("!") and rest[:2] == [name, kind]:
                self.used[line] = self.used.get(line, 0) + 1
                if len(rest) < 3 or self.used[line] <= int(rest[2]):
                    return code
        return None

    def resolve(self, request, handler):
        with self.alone:
            return self.answer(request, handler)

    def answer(self, request, handler):
        name, kind = str(request.q.qname).lower(), QTYPE[request.q.qtype]
        print(handler.protocol, kind, name, flush=True)
        lines = self.read()
        reply = request.reply()
        code = self.wrong(lines, name, kind)
        if code == "SILENT":
            raise DNSError("nothing is said")
        if code is not None:
            reply.header.rcode = getattr(RCODE, code)
            return reply
        records = [record for line in lines if not line.startswith("!") for record in RR.fromZone(line)]
        own = [record for record in records if str(record.rname).lower() == name]
        while own and QTYPE[own[0].rtype] == "CNAME":
            reply.add_answer(own[0])
            own = [record for record in records if record.rname == own[0].rdata.label]
        for record in own:
            if QTYPE[record.rtype] == kind:
                reply.add_answer(record)
        if not own:
            reply.header.rcode = RCODE.NXDOMAIN
        if handler.protocol == "udp" and len(reply.pack()) > UDP_LENGTH:
            # dnslib's own way to shorten an answer leaves the question out, and is taken for a forgery.
            reply = request.reply()
            reply.header.tc = 1
        return reply


def main() -> None:
    zone, logger = Zone(sys.argv[1]), DNSLogger(log="-request,-reply,-truncated,-error", prefix=False)
    # The port that UDP gets may be taken for TCP.
    for _ in range(50):
        udp = DNSServer(zone, address="127.0.0.1", port=0, logger=logger, server=UDPServer)
        port = udp.server.server_address[1]
        try:
            tcp = DNSServer(zone, address="127.0.0.1", port=port, logger=logger, server=TCPServer)
        except OSError:
            udp.server.server_close()
            continue
        tcp.start_thread()
        print("port", port, flush=True)
        udp.start()
        return
    sys.exit("no port is free for both UDP and TCP")


if __name__ == "__main__":
    main()
