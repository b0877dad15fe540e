"""`rowmill check`: what a run would meet, told by one real request for one real row, without a file more."""

import json
from collections.abc import Callable

from tests.end_to_end.conftest import Arrival, Place, Server

KEY = "sk-not-to-be-shown-0123456789"


def test_one_request_tells_what_a_run_would_meet(place: Place, server: Callable[..., Server]) -> None:
    limits = {
        "x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms", "x-ratelimit-limit-tokens": "200000",
        "x-ratelimit-remaining-tokens": "199900", "x-ratelimit-reset-tokens": "1m30s",
    }  # fmt: skip
    body = json.dumps(
        {
            "id": "1", "object": "chat.completion", "created": 1, "model": "sim-small-2026",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 41, "completion_tokens": 1, "total_tokens": 42},
        }
    ).encode()  # fmt: skip
    good = server(lambda _: (200, limits, body))
    refusing = server(lambda arrival: (401, {}, json.dumps({"error": {"message": f"Bad key {KEY}"}}).encode()))
    place.configure(good.url)
    place.environ["THE_KEY"] = KEY
    with (place.folder / "config.toml").open("a") as file:
        file.write(
            f'[[provider]]\nname = "other"\nbase_url = "{refusing.url}"\napi_key_env = "THE_KEY"\nmodel = "its-own"\n'
            '[[provider]]\nname = "gone"\nbase_url = "http://127.0.0.1:9/v1"\n'
            "[prices]\nsim-small = { input = 1.0, output = 4.0 }\n"
        )
    place.write_lines([b"no row\n", b'{"id": "a", "text": "row 000001"}\n', b'{"id": "b", "text": "row 000002"}\n'])
    before = place.files()
    done = place.start(command="check").wait()
    assert (done.code, done.err) == (4, ""), done.err
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert "input in.jsonl: jsonl; columns id, text" in lines
    assert "request of row 1:" in lines
    assert '{"role": "user", "content": "Summarise in one line:\\nrow 000001"}' in lines
    assert f"provider main: {good.url}/chat/completions, model sim-small" in lines
    assert "price $1 in, $4 out a million tokens" in lines
    (ok,) = [line for line in lines if line.startswith("ok ")]
    assert ok.endswith("as sim-small-2026, 41 tokens in, 1 out")
    assert 'answer "Hi"' in lines
    assert "limits 500 requests (all back within 0.1s), 200,000 tokens (all back within 1m30s)" in lines
    assert "key from THE_KEY" in lines
    failed = [line for line in lines if line.startswith("FAILED")]
    assert "HTTP 401" in failed[0]
    assert "Bad key [redacted]" in failed[0]
    assert "Is the key right (api_key_env)" in failed[0]
    assert f"provider other: {refusing.url}/chat/completions, model its-own" in lines
    assert "Connection refused" in failed[1]
    assert KEY not in done.out
    (asked,) = refusing.arrivals
    assert (asked.authorization, json.loads(asked.body)["model"]) == (f"Bearer {KEY}", "its-own")
    assert len(good.arrivals) == 1

    told = json.loads(place.start("--json", "--no-request", command="check").wait().out)
    assert [each["ok"] for each in told["providers"]] == [None, None, None]
    assert (told["row"], len(good.arrivals)) == (1, 1)
    assert place.files() == before


def test_what_is_no_answer_is_shown_as_it_came(place: Place, server: Callable[..., Server]) -> None:
    def decide(arrival: Arrival) -> tuple[int, dict[str, str], bytes]:
        return 200, {"content-type": "text/html"}, b"<html><title>Hello</title>\x1b[31m</html>"

    place.configure(server(decide).url)
    place.write_rows(1)
    done = place.start("-q", command="check").wait()
    assert done.code == 4
    assert "\x1b" not in done.out
    assert "<html><title>Hello</title>" in done.out
    refused = place.start("--set", "task.prompt={txt}", command="check").wait()
    assert (refused.code, refused.out) == (2, "")
    assert "no column 'txt', which task.prompt names; did you mean 'text'?" in refused.err


def test_what_a_run_would_refuse_is_refused(place: Place, server: Callable[..., Server]) -> None:
    witness = server()
    place.configure(witness.url)
    place.write_rows(1)
    for settings, why in (
        (["budget.max_usd=1"], 'the price of model "sim-small" at provider "main" is not known'),
        (["task.mode=batch", 'task.per_row={model="text"}'], 'task.mode: "batch" needs one model for all rows'),
    ):
        flags = [word for each in settings for word in ("--set", each)]
        refused = [place.start(*flags, command=command).wait() for command in ("check", "run")]
        assert [(each.code, each.out) for each in refused] == [(2, "")] * 2
        assert refused[0].err == refused[1].err
        assert why in refused[0].err
    assert not witness.arrivals
