"""The demo: a newcomer's first calls, whatever they begin with."""

import openai
import pytest
from pillion import HELLO, Gateway


@pytest.fixture
def demo(tmp_path):
    demo = Gateway(None, tmp_path)
    yield demo
    assert demo.stop() == 0, demo.log


def test_chats_and_responses_are_answered_whole_and_streamed(demo):
    client = demo.openai()
    chat = client.chat.completions.create(model="demo", messages=HELLO)
    chunks = list(client.chat.completions.create(model="demo", messages=HELLO, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    response = client.responses.create(model="gpt-4o-mini", input=HELLO[-1]["content"])
    with client.responses.stream(model="demo", input=HELLO) as stream:
        numbers = [event.sequence_number for event in stream if hasattr(event, "sequence_number")]
        final = stream.get_final_response()
    for said in chat.choices[0].message.content, text, response.output_text, final.output_text:
        assert "deployment of the Pillion demo" in said and f"“{HELLO[-1]['content']}”" in said
    assert numbers == sorted(numbers) and final.status == "completed"
    assert chat.usage.total_tokens and response.usage.total_tokens and final.usage.total_tokens


def test_what_the_demo_does_not_speak_is_said(demo):
    with pytest.raises(openai.NotFoundError, match="chat completions and Responses only"):
        demo.openai().embeddings.create(model="demo", input="hello")
