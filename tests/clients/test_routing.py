"""Which deployment is called, how often, and what the client is told about it."""

import threading
import time
from collections import Counter

import fake as provider
import openai
import pytest
from pillion import HELLO, deployment, until

BAD = [{"role": "user", "content": "x"}]


def shares(lanes) -> list[int]:
    return [lane.count for lane in lanes]


def test_one_failure_is_retried(gateway, lane):
    lane.script(provider.error(500), provider.chat())
    got = gateway(deployment("gpt", lane, id="one"), router={"num_retries": 2}).ask()
    assert got.status_code == 200 and lane.count == 2
    assert got.headers["x-litellm-attempted-retries"] == "1"
    assert lane.seen[1].at - lane.seen[0].at >= 0.45, "the only deployment is given a moment"
    assert lane.seen[0].raw == lane.seen[1].raw


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_retries_end_and_nothing_sleeps_after_the_last(gateway, lane, stream):
    lane.script(provider.error(503, "still down"))
    start = time.monotonic()
    got = gateway(deployment("gpt", lane), router={"num_retries": 2}).ask(stream=stream)
    end = time.monotonic()
    assert got.status_code == 503 and "still down" in got.json()["error"]["message"]
    assert lane.count == 3
    assert end - lane.last.at < 0.4, f"{end - lane.last.at:.2f} s between the last failure and the answer"
    assert end - start < 5


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_cannot_help_is_not_retried(gateway, lane, status):
    lane.script(provider.error(status))
    assert gateway(deployment("gpt", lane), router={"num_retries": 3}).ask().status_code == status
    assert lane.count == 1


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_what_may_help_is_retried_without_a_pause_where_there_are_two(gateway, lanes, status):
    bad, good = pair = lanes(2)
    bad.script(provider.error(status))
    running = gateway(deployment("gpt", bad, weight=10**9), deployment("gpt", good, weight=1), router={"num_retries": 2})
    start = time.monotonic()
    got = running.ask()
    assert time.monotonic() - start < 0.4
    if status == 429:  # cooled down at once, so the retry lands elsewhere
        assert got.status_code == 200 and shares(pair) == [1, 1]
    else:  # one failure cools nothing, and the weight still points at it
        assert shares(pair) == [3, 0] and got.status_code == status or shares(pair)[1] == 1 and got.status_code == 200


@pytest.mark.parametrize("headers,low,high", [
    ({"retry-after": "1"}, 1.0, 2.0), ({"retry-after-ms": "300"}, 0.3, 1.3), ({"retry-after": "0.4"}, 0.4, 1.4),
], ids=["seconds", "milliseconds", "fraction"])
def test_retry_after_is_honoured(gateway, lane, headers, low, high):
    lane.script(provider.error(429, headers=headers), provider.chat())
    assert gateway(deployment("gpt", lane), router={"num_retries": 1}).ask().status_code == 200
    wait = lane.seen[1].at - lane.seen[0].at
    assert low - 0.02 <= wait <= high, wait


def test_a_request_may_set_its_retries(gateway, lane):
    lane.script(provider.error(500))
    running = gateway(deployment("gpt", lane), router={"num_retries": 2})
    running.ask(num_retries=0)
    assert lane.count == 1 and "num_retries" not in lane.last.json
    running.ask(headers={"x-litellm-num-retries": "1"})
    assert lane.count == 3


def test_a_role_only_start_does_not_commit(gateway, lanes):
    """Nothing has been said while only the role came: another deployment may still answer."""
    bad, good = lanes(2)
    bad.script(provider.chat(empties=2, cut=2))
    client = gateway(deployment("gpt", bad), deployment("spare", good), router={"fallbacks": [{"gpt": ["spare"]}]}).openai()
    chunks = list(client.chat.completions.create(model="gpt", messages=HELLO, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "Hello from upstream."
    assert [c.choices[0].delta.role for c in chunks if c.choices[0].delta.role] == ["assistant"]
    assert good.count == 1


def test_no_try_follows_content(gateway, lanes):
    bad, good = lanes(2)
    bad.script(provider.chat("one two three", cut=3))
    client = gateway(deployment("gpt", bad), deployment("spare", good),
                     router={"num_retries": 2, "fallbacks": [{"gpt": ["spare"]}]}).openai()
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model="gpt", messages=HELLO, stream=True))
    assert (bad.count, good.count) == (1, 0)


@pytest.mark.parametrize("status", [400, 401, 429, 500])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_fallback_answers_under_its_own_name(gateway, lanes, status, stream):
    bad, good = lanes(2)
    bad.script(provider.error(status))
    running = gateway(deployment("gpt", bad, id="a"), deployment("spare", good, "openai/other", id="b"), router={"fallbacks": [{"gpt": ["spare"]}]})
    got = running.openai().chat.completions.with_raw_response.create(model="gpt", messages=HELLO, stream=stream)
    parsed = list(got.parse()) if stream else [got.parse()]
    assert {one.model for one in parsed} == {"spare"}
    assert good.last.json["model"] == "other" and (bad.count, good.count) == (1, 1)
    assert got.headers["x-litellm-attempted-fallbacks"] == "1"
    assert got.headers["x-litellm-model-group"] == "spare" and got.headers["x-litellm-model-id"] == "b"


def test_default_fallbacks_serve_every_group(gateway, lanes):
    bad, good = lanes(2)
    bad.script(provider.error(500))
    got = gateway(deployment("gpt", bad), deployment("spare", good), router={"default_fallbacks": ["spare"]}).ask()
    assert got.status_code == 200 and got.json()["model"] == "spare"


def test_default_fallbacks_may_stand_in_litellm_settings(gateway, lanes):
    bad, good = lanes(2)
    bad.script(provider.error(500))
    assert gateway(deployment("gpt", bad), deployment("spare", good), litellm={"default_fallbacks": ["spare"]}).ask().status_code == 200


def test_fallbacks_may_stand_in_litellm_settings(gateway, lanes):
    bad, good = lanes(2)
    bad.script(provider.error(500))
    assert gateway(deployment("gpt", bad), deployment("spare", good), litellm={"fallbacks": [{"gpt": ["spare"]}]}).ask().status_code == 200


def test_fallbacks_are_tried_in_turn(gateway, lanes):
    first, second, third = trio = lanes(3)
    first.script(provider.error(500, "the first reason"))
    second.script(provider.error(503, "the second reason"))
    running = gateway(*[deployment(name, lane) for name, lane in zip("abc", trio)], router={"fallbacks": [{"a": ["b", "c"]}]})
    got = running.ask("a")
    assert got.status_code == 200 and got.json()["model"] == "c" and shares(trio) == [1, 1, 1]
    third.script(provider.error(400, "the third reason"))
    got = running.ask("a")
    assert got.status_code == 500 and "the first reason" in got.json()["error"]["message"]


@pytest.mark.parametrize("setting,reply,other", [
    ("context_window_fallbacks", provider.context_window, "spare"), ("content_policy_fallbacks", provider.content_policy, "spare"),
])
def test_special_fallbacks_take_their_own_errors(gateway, lanes, setting, reply, other):
    bad, special, plain = trio = lanes(3)
    running = gateway(deployment("gpt", bad), deployment("big", special), deployment("spare", plain),
                      router={setting: [{"gpt": ["big"]}], "fallbacks": [{"gpt": ["spare"]}], "disable_cooldowns": True})
    bad.script(reply())
    assert running.ask().json()["model"] == "big"
    bad.script(provider.error(500))
    assert running.ask().json()["model"] == "spare"
    assert shares(trio) == [2, 1, 1]


def test_a_request_may_bring_its_fallbacks(gateway, lanes):
    bad, good = lanes(2)
    bad.script(provider.error(500))
    running = gateway(deployment("gpt", bad), deployment("spare", good), router={"disable_cooldowns": True})
    assert running.ask(fallbacks=["spare"]).json()["model"] == "spare"
    assert "fallbacks" not in good.last.json
    got = running.ask(fallbacks=[{"model": "spare", "messages": BAD, "temperature": 0.3}])
    assert got.status_code == 200 and good.last.json["messages"] == BAD and good.last.json["temperature"] == 0.3
    assert running.ask(fallbacks=["nobody"]).status_code == 500


@pytest.mark.parametrize("how", [{"disable_fallbacks": True}, {"fallbacks": []}], ids=["disable", "empty"])
def test_a_request_may_decline_fallbacks(gateway, lanes, how):
    bad, good = lanes(2)
    bad.script(provider.error(500))
    running = gateway(deployment("gpt", bad), deployment("spare", good), router={"fallbacks": [{"gpt": ["spare"]}]})
    assert running.ask(**how).status_code == 500 and good.count == 0


def test_a_busy_deployment_is_left_alone(gateway, lanes):
    bad, good = pair = lanes(2)
    bad.script(provider.error(429, headers={"retry-after": "30"}))
    running = gateway(deployment("gpt", bad, weight=1000000), deployment("gpt", good, weight=1), router={"num_retries": 1})
    first = running.ask()
    assert first.status_code == 200 and first.headers["x-litellm-attempted-retries"] == "1"
    assert [running.ask().status_code for _ in range(5)] == [200] * 5
    assert shares(pair) == [1, 6]


def test_half_the_calls_failing_cools_down_once_per_try(gateway, lanes):
    """Five failures of five tries are enough, and retries of one request count like any other."""
    bad, good = pair = lanes(2)
    bad.script(provider.error(500))
    running = gateway(deployment("gpt", bad, weight=10**9), deployment("gpt", good, weight=1), router={"cooldown_time": 30})
    assert [running.ask().status_code for _ in range(7)] == [500] * 5 + [200] * 2
    assert shares(pair) == [5, 2]


def test_cooldowns_end(gateway, lanes):
    bad, good = pair = lanes(2)
    bad.script(provider.error(429), provider.chat())
    running = gateway(deployment("gpt", bad, weight=10**9), deployment("gpt", good, weight=1), router={"num_retries": 1, "cooldown_time": 1})
    running.ask()
    until(lambda: running.ask().status_code == 200 and bad.count == 2, 5, lambda: f"never came back: {shares(pair)}")
    assert good.last.at - bad.seen[0].at <= 1.5


def test_a_refused_key_cools_down_at_once_and_says_when(gateway, lane):
    lane.script(provider.error(401))
    running = gateway(deployment("gpt", lane, id="a"), router={"cooldown_time": 20})
    assert running.ask().status_code == 401
    got = running.ask()
    assert got.status_code == 429 and 1 <= int(got.headers["retry-after"]) <= 20
    assert lane.count == 1
    assert running.total("pillion_requests_total") == 2


def test_cooldowns_can_be_off(gateway, lane):
    lane.script(provider.error(401))
    running = gateway(deployment("gpt", lane), router={"disable_cooldowns": True})
    assert [running.ask().status_code for _ in range(3)] == [401] * 3 and lane.count == 3


def test_allowed_fails_are_allowed(gateway, lanes):
    bad, good = pair = lanes(2)
    bad.script(provider.error(500))
    running = gateway(deployment("gpt", bad, weight=10**9), deployment("gpt", good, weight=1), router={"allowed_fails": 1, "cooldown_time": 30})
    assert [running.ask().status_code for _ in range(4)] == [500, 500, 200, 200]
    assert shares(pair) == [2, 2]


@pytest.mark.parametrize("knob", ["weight", "rpm", "tpm"])
def test_weights_divide_the_calls(gateway, lanes, knob):
    pair = lanes(2)
    running = gateway(*[deployment("gpt", lane, **{knob: share}) for lane, share in zip(pair, (3000, 1000))])
    client = running.http
    for _ in range(200):
        client.post("/v1/chat/completions", json={"model": "gpt", "messages": HELLO})
    # Expected 150 of 200, standard deviation 6.1: five of those either way.
    assert 119 <= pair[0].count <= 181 and sum(shares(pair)) == 200


def test_without_weights_all_are_used_alike(gateway, lanes):
    trio = lanes(3)
    running = gateway(*[deployment("gpt", lane) for lane in trio], router={"routing_strategy": "simple-shuffle"})
    for _ in range(150):
        running.ask()
    assert all(20 <= lane.count <= 80 for lane in trio), shares(trio)


def test_order_keeps_the_second_for_need(gateway, lanes):
    first, second = pair = lanes(2)
    running = gateway(deployment("gpt", first, order=1, id="a"), deployment("gpt", second, order=2, id="b"))
    assert {running.ask().headers["x-litellm-model-id"] for _ in range(10)} == {"a"}
    first.script(provider.error(500))
    got = running.ask()
    assert got.status_code == 200 and got.json()["model"] == "gpt" and got.headers["x-litellm-model-id"] == "b"
    assert shares(pair) == [11, 1]


def test_wildcards_carry_the_name_over(gateway, lane):
    running = gateway(deployment("openai/*", lane, "openai/*"))
    got = running.openai().chat.completions.create(model="openai/gpt-9-turbo", messages=HELLO)
    assert lane.last.json["model"] == "gpt-9-turbo" and got.model == "openai/gpt-9-turbo"
    assert running.ask("other/x").status_code in (400, 404)


def test_the_bare_star_takes_what_nobody_else_does(gateway, lanes):
    exact, rest = lanes(2)
    running = gateway(deployment("gpt", exact), deployment("*", rest, "openai/*"))
    assert running.ask("gpt").status_code == 200 and (exact.count, rest.count) == (1, 0)
    assert running.ask("whatever").status_code == 200 and rest.last.json["model"] == "whatever"


def test_wildcards_may_stand_inside(gateway, lane):
    running = gateway(deployment("team-*", lane, "openai/prod-*"))
    assert running.ask("team-blue").json()["model"] == "team-blue" and lane.last.json["model"] == "prod-blue"


def test_an_alias_answers_under_the_alias(gateway, lane):
    running = gateway(deployment("gpt", lane), router={"model_group_alias": {"gpt-4": "gpt", "secret": {"model": "gpt", "hidden": True}}})
    got = running.ask("gpt-4")
    assert got.json()["model"] == "gpt-4" and lane.last.json["model"] == "gpt-4o-mini"
    assert running.ask("secret").status_code == 200
    names = {m.id for m in running.openai().models.list()}
    assert "gpt" in names and "gpt-4" in names and "secret" not in names


def test_a_deployment_can_be_asked_for_by_id(gateway, lanes):
    pair = lanes(2)
    running = gateway(deployment("gpt", pair[0], id="a"), deployment("gpt", pair[1], id="b"))
    assert {running.ask("b").headers["x-litellm-model-id"] for _ in range(8)} == {"b"}


def test_tags_choose_among_deployments(gateway, lanes):
    pair = lanes(2)
    running = gateway(deployment("gpt", pair[0], id="free", tags=["free"]), deployment("gpt", pair[1], id="paid", tags=["paid"]),
                      router={"enable_tag_filtering": True})
    assert {running.ask(metadata={"tags": ["paid"]}).headers["x-litellm-model-id"] for _ in range(6)} == {"paid"}
    assert {running.ask(headers={"x-litellm-tags": "free"}).headers["x-litellm-model-id"] for _ in range(6)} == {"free"}


def test_a_full_deployment_is_passed_over(gateway, lanes):
    first, second = pair = lanes(2)
    first.script(provider.chat(delay=1.5))
    running = gateway(deployment("gpt", first, weight=10**9, max_parallel_requests=1), deployment("gpt", second, weight=1), router={"num_retries": 1})
    slow = threading.Thread(target=running.ask)
    slow.start()
    first.wait_seen()
    assert running.ask().status_code == 200
    slow.join()
    assert shares(pair) == [1, 1]


def test_headers_tell_what_happened(gateway, lane):
    running = gateway(deployment("gpt", lane, id="dep-1"))
    got = running.ask()
    headers = got.headers
    assert headers["x-litellm-model-id"] == "dep-1" and headers["x-litellm-model-group"] == "gpt"
    assert headers["x-litellm-attempted-retries"] == "0" and headers["x-litellm-attempted-fallbacks"] == "0"
    assert headers["x-litellm-call-id"] and headers["x-pillion-route"]
    assert float(headers["x-litellm-response-cost"]) == pytest.approx(11 * 0.15e-6 + 7 * 0.60e-6)
    streamed = running.ask(stream=True).headers
    assert streamed["x-litellm-model-id"] == "dep-1" and streamed["x-pillion-route"]
    assert streamed["x-litellm-call-id"] != headers["x-litellm-call-id"]
    assert running.ask(headers={"x-litellm-call-id": "mine-1"}).headers["x-litellm-call-id"] == "mine-1"


def test_configured_prices_win(gateway, lane):
    running = gateway(deployment("gpt", lane, input_cost_per_token=0.001, output_cost_per_token=0.01))
    assert float(running.ask().headers["x-litellm-response-cost"]) == pytest.approx(11 * 0.001 + 7 * 0.01)


def test_cached_tokens_cost_less(gateway, lane):
    lane.script(provider.chat(usage={"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010,
                                     "prompt_tokens_details": {"cached_tokens": 800}}))
    cost = float(gateway(deployment("gpt", lane)).ask().headers["x-litellm-response-cost"])
    assert cost == pytest.approx(200 * 0.15e-6 + 800 * 0.075e-6 + 10 * 0.60e-6)


def test_errors_carry_the_call_id(gateway, lane):
    lane.script(provider.error(500))
    got = gateway(deployment("gpt", lane, id="dep-1")).ask()
    assert got.headers["x-litellm-call-id"]


def test_calls_are_counted_and_logged_once(gateway, lanes):
    bad, good = lanes(2)
    bad.script(provider.error(500))
    running = gateway(deployment("gpt", good, id="dep-1"), deployment("broken", bad, id="dep-2"), router={"disable_cooldowns": True})
    ids = [running.ask().headers["x-litellm-call-id"] for _ in range(3)]
    ids.append(running.ask(stream=True).headers["x-litellm-call-id"])
    ids.append(running.ask("broken").headers["x-litellm-call-id"])
    for ident in ids:
        running.record(ident)
    assert running.total("pillion_requests_total") == 5
    text = running.metrics()
    assert "pillion_build_info" in text and "dep-1" in text or "gpt" in text
    for line in text.splitlines():
        assert line.startswith(("#", "pillion_", "process_")) or not line, line


def test_clients_cannot_make_new_series(gateway, lane):
    running = gateway(deployment("gpt", lane), deployment("openai/*", lane, "openai/*"))
    running.ask()
    running.ask("nobody-0")
    running.ask("openai/name-0")
    before = len(running.metrics().splitlines())
    for number in range(1, 20):
        running.ask(f"nobody-{number}")
        running.ask(f"openai/name-{number}")
        running.http.get(f"/v1/path-{number}")
    assert len(running.metrics().splitlines()) <= before + 30
    assert "nobody-7" not in running.metrics() and "name-7" not in running.metrics() and "path-7" not in running.metrics()


def test_64_calls_share_two_deployments(gateway, lanes):
    pair = lanes(2)
    running = gateway(*[deployment("gpt", lane.script(provider.chat(delay=0.1)), id=name) for lane, name in zip(pair, "ab")])
    results = []
    threads = [threading.Thread(target=lambda: results.append(running.ask())) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(r.status_code for r in results) == {200: 64}
    assert sum(shares(pair)) == 64 and min(shares(pair)) >= 8
