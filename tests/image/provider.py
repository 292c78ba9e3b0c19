"""A name server that knows provider.example.com, and the provider: both on loopback."""

import socket
import threading
from http.server import HTTPServer

from answering import Answering

ANSWER = {
    "id": "x", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "found by its name"}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


class Provider(Answering):
    def do_POST(self):
        self.asked()
        self.answer(ANSWER)


def names():
    """Answers every question for an IPv4 address with 127.0.0.1, and every other with nothing."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    while True:
        query, peer = server.recvfrom(512)
        end = query.index(b"\0", 12) + 5
        is_address = query[end - 4 : end - 2] == b"\0\1"
        head = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_address else b"\0\0") + b"\0\0\0\0"
        record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton("127.0.0.1")
        server.sendto(head + query[12:end] + (record if is_address else b""), peer)


threading.Thread(target=names, daemon=True).start()
HTTPServer(("127.0.0.1", 8000), Provider).serve_forever()
