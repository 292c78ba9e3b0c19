"""The application: it asks its model by OpenAI's SDK, plainly and streamed, as it stands in every tutorial.

When it is told to end it asks for a while more, as a server does that finishes what it has promised,
and ends when all is answered. Each answer is a line on standard output.

    python -m chat             that
    python -m chat search      looks for a secret, given on standard input, wherever it may look
"""

import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request

MESSAGES = [{"role": "user", "content": "Hello"}]
LAST_WORDS = 1.5
ended = threading.Event()


def plain(client):
    choice = client.chat.completions.create(model="gpt", messages=MESSAGES).choices[0]
    return choice.message.content, choice.finish_reason


def streamed(client):
    text, finish = "", None
    for chunk in client.chat.completions.create(model="gpt", messages=MESSAGES, stream=True):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    return text, finish


def ask_on(client, ask, lock):
    while not ended.is_set():
        line = {"kind": ask.__name__, "begun": time.monotonic()}
        try:
            line["text"], line["finish"] = ask(client)
        except Exception as error:
            line["error"] = f"{type(error).__name__}: {error}"
        line["over"] = time.monotonic()
        with lock:
            print(json.dumps(line), flush=True)


def main():
    import openai

    # Address and key are those of the environment; a second try would hide that the first was lost.
    client, lock = openai.OpenAI(max_retries=0, timeout=20), threading.Lock()
    signal.signal(signal.SIGTERM, lambda *_: threading.Timer(LAST_WORDS, ended.set).start())
    callers = [threading.Thread(target=ask_on, args=(client, ask, lock)) for ask in [plain, streamed] * 3]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()


# Programs, and what the kernel makes up.
PASSED_OVER = {"/usr", "/dev", "/proc", "/venv", os.path.realpath(sys.base_prefix)}


def texts(admin):
    """Everything there is to read: its environment, its files, what the sidecar says to whoever asks."""
    for kind in ("environ", "cmdline"):
        with open(f"/proc/self/{kind}", "rb") as file:
            yield f"/proc/self/{kind}", file.read()
    for folder, below, names in os.walk("/"):
        below[:] = [name for name in below if os.path.join(folder, name) not in PASSED_OVER]
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                yield path, file.read()
    api = os.environ["OPENAI_BASE_URL"]
    pages = ["", "metrics", "fleet", "report", "readyz", "explain?model=gpt", "config", "debug/pprof"]
    for url in [*(f"{admin}/{page}" for page in pages), f"{api}/models", f"{api}/key/info"]:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                yield url, answer.read()
        except urllib.error.HTTPError as refused:
            yield url, refused.read()


def search(admin, provider):
    secret = sys.stdin.readline().strip().encode()
    looked = dict(texts(admin))
    try:
        socket.create_connection(provider, timeout=2).close()
        direct = "reached"
    except OSError as error:
        direct = type(error).__name__
    found = [place for place, text in looked.items() if secret in text]
    print(json.dumps({"looked": list(looked), "found": found, "direct": direct}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["search"]:
        search(sys.argv[2], (sys.argv[3], int(sys.argv[4])))
    else:
        main()
