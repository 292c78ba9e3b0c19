"""Seeds from recorded provider traffic: the bodies of a target's kind, as files in a folder.

    seed.py TARGET FOLDER

`PILLION_CORPUS` names the recordings; without them there are none, and one line says so.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

CORPUS = Path(os.environ.get("PILLION_CORPUS", Path(__file__).parents[3] / "shared" / "corpus"))
# Which recorded calls a target reads, and which side of them.
READS = {
    "anthropic_stream": ({"messages"}, "response"),
    "assemble": ({"chat_completions", "completions", "messages", "responses"}, "response"),
    "openai_stream": ({"chat_completions", "completions"}, "response"),
    "peek": ({"chat_completions", "completions", "embeddings", "messages", "responses"}, "request"),
    "sse": ({"chat_completions", "messages", "responses"}, "response"),
    "watch": ({"chat_completions", "completions", "messages", "responses"}, "response"),
}
# A longer one is slow, and says nothing that a short one does not.
LONGEST = 8_192


def bodies(target: str):
    apis, side = READS[target]
    for file in sorted(CORPUS.glob("*.jsonl")):
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                exchange = json.loads(line)
                body = exchange[side]["body"]
                if exchange["api"] not in apis or (side == "response" and not exchange["streaming"]):
                    continue
                text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
                if body and len(text) <= LONGEST:
                    yield exchange["id"], text


def main() -> None:
    target, folder = sys.argv[1], Path(sys.argv[2])
    if target not in READS:
        return
    if not CORPUS.exists():
        print(f"   {target}: no recorded seeds (PILLION_CORPUS names the corpus)")
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in bodies(target):
        (folder / name).write_text(text, encoding="utf-8")


main()
