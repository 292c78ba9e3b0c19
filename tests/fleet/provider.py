"""Simulated deployments: each on a port of its own, with a mood that a test sets while it runs."""

import dataclasses
import http.server
import json
import threading
import time


@dataclasses.dataclass
class Mood:
    """How a deployment answers now."""

    status: int = 200
    delay: float = 0.01
    retry_after: str | None = None


@dataclasses.dataclass
class Asked:
    """A call that came."""

    when: float
    by: str
    status: int


ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
}


class Deployment:
    """Serves until the process ends; knows who has asked it, and when."""

    def __init__(self, address, port):
        self.base = f"http://{address}:{port}/v1"
        self.mood = Mood()
        self.asked = []
        deployment = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one go

            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                mood = deployment.mood
                by = self.client_address[0]
                deployment.asked.append(Asked(time.monotonic(), by, mood.status))
                time.sleep(mood.delay)
                is_good = mood.status == 200
                body = ANSWER if is_good else {"error": {"message": "no", "type": "simulated"}}
                body = json.dumps(body).encode()
                self.send_response(mood.status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                if mood.retry_after:
                    self.send_header("retry-after", mood.retry_after)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        http.server.ThreadingHTTPServer.request_queue_size = 256
        server = http.server.ThreadingHTTPServer((address, port), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def since(self, moment, by=None):
        """The calls since a moment, of one pod or of all."""
        return [it for it in list(self.asked) if it.when >= moment and by in (None, it.by)]
