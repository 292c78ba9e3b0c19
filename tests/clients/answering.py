"""As much of an HTTP server as answers with JSON, and says nothing on the terminal."""

import json
from http.server import BaseHTTPRequestHandler


class Answering(BaseHTTPRequestHandler):
    def asked(self):
        """The body of the request."""
        return self.rfile.read(int(self.headers["content-length"]))

    def answer(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass
