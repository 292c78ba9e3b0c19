"""A server of names: the headless name of the fleet stands for every pod, in A and AAAA records.

Over UDP it gives no more than 8 of them and says that it was cut, so that TCP is needed as it is with
hundreds of pods.
"""

import socket
import socketserver
import struct
import threading

LONGEST = 150
FAMILIES = {1: socket.AF_INET, 28: socket.AF_INET6}  # of A and AAAA records


def answer(query, addresses, most):
    """The answer to a query; `addresses` are those of each name."""
    number, flags, _, _, _, _ = struct.unpack("!6H", query[:12])
    end, labels = 12, []
    while query[end]:
        labels.append(query[end + 1 : end + 1 + query[end]].decode())
        end += 1 + query[end]
    question = query[12 : end + 5]
    kind, _ = struct.unpack("!2H", query[end + 1 : end + 5])
    found = addresses(".".join(labels).lower())
    code = 3 if found is None else 0
    packed = [
        socket.inet_pton(FAMILIES[kind], one)
        for one in found or []
        if kind in FAMILIES and (":" in one) == (kind == 28)
    ]
    records = b"".join(
        b"\xc0\x0c" + struct.pack("!2HIH", kind, 1, 5, len(one)) + one for one in packed
    )
    count, cut = len(packed), 0
    if len(records) > most:
        records, count, cut = b"", 0, 0x0200
    flags = 0x8580 | (flags & 0x0110) | cut | code
    return struct.pack("!6H", number, flags, 1, count, 0, 0) + question + records


class Names:
    """Serves until the process ends."""

    def __init__(self, address, zone):
        def find(name):
            return zone.get(name)

        class Udp(socketserver.BaseRequestHandler):
            def handle(self):
                query, socket = self.request
                socket.sendto(answer(query, find, LONGEST), self.client_address)

        class Tcp(socketserver.StreamRequestHandler):
            def handle(self):
                while length := self.rfile.read(2):
                    query = self.rfile.read(int.from_bytes(length, "big"))
                    said = answer(query, find, 65_000)
                    self.wfile.write(len(said).to_bytes(2, "big") + said)

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        for server, handler in [
            (socketserver.ThreadingUDPServer, Udp),
            (socketserver.ThreadingTCPServer, Tcp),
        ]:
            serving = server((address, 53), handler)
            serving.daemon_threads = True
            threading.Thread(target=serving.serve_forever, daemon=True).start()
