"""A reply is a pure function of the request body, belongs to its row, and has OpenAI's shape."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from rowmill.simulator.replies import RequestError, compose, digest, fingerprint
from rowmill.simulator.replies.wording import FILTERED, REFUSED


def _body(content: Any = "Summarise this:\nA library for parsing dates.", **extra: Any) -> bytes:
    return json.dumps({"model": "sim-small", "messages": [{"role": "user", "content": content}], **extra}).encode()


def _reply(body: bytes) -> dict[str, Any]:
    reply: dict[str, Any] = json.loads(compose(body, fingerprint(body)).body)
    return reply


def _refusal(body: bytes) -> tuple[int, dict[str, Any]]:
    with pytest.raises(RequestError) as caught:
        compose(body, fingerprint(body))
    return caught.value.status, json.loads(caught.value.body)["error"]


# Texts with the two markers are not answered by a summary, and Hypothesis tries what it finds in the source.
@given(st.text(max_size=2000).filter(lambda text: FILTERED not in text and REFUSED not in text))
def test_a_reply_is_one_line_that_carries_its_rows_digest(question: str) -> None:
    text = _reply(_body(question))["choices"][0]["message"]["content"]
    assert text.endswith(f"[{digest(question)}]")
    assert len(text.splitlines()) == 1


def test_a_summary_shows_what_follows_the_instruction() -> None:
    assert "A library for parsing dates." in _reply(_body())["choices"][0]["message"]["content"]


def test_different_bodies_have_different_ids_and_the_same_body_the_same_bytes() -> None:
    one, other = _body("one"), _body("other")
    assert compose(one, fingerprint(one)) == compose(one, fingerprint(one))
    assert _reply(one)["id"] != _reply(other)["id"]


def test_usage_is_counted_from_characters_and_sums_up() -> None:
    usage = _reply(_body("x" * 400))["usage"]
    assert usage["prompt_tokens"] == 100
    assert usage["total_tokens"] == 100 + usage["completion_tokens"]
    assert _reply(_body(""))["usage"]["prompt_tokens"] == 1


def test_several_choices_differ_by_their_place_and_are_billed_with_one_prompt() -> None:
    one, three = _reply(_body("x" * 400)), _reply(_body("x" * 400, n=3))
    assert [choice["index"] for choice in three["choices"]] == [0, 1, 2]
    texts = [choice["message"]["content"] for choice in three["choices"]]
    assert len(set(texts)) == 3
    assert texts[0] == one["choices"][0]["message"]["content"]
    assert three["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"] == 100
    assert three["usage"]["completion_tokens"] == sum(max(1, len(text) // 4) for text in texts)
    body = _body("x" * 400, n=3, max_tokens=5)
    completion = compose(body, fingerprint(body))
    assert (completion.prompt_tokens, completion.completion_tokens, completion.charge) == (100, 15, 115)
    assert compose(body, fingerprint(body), 50.0) == compose(body, fingerprint(body), 50.0)
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    contents = [choice["message"]["content"] for choice in _reply(_body(n=2, response_format=form))["choices"]]
    assert len({json.loads(content)["a"] for content in contents}) == 2
    for n in (0, 129):
        assert _refusal(_body(n=n))[0] == 400
    assert len(_reply(_body(n=None))["choices"]) == 1


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_token_cap_cuts_the_text_and_says_length(name: str) -> None:
    choice = _reply(_body(**{name: 3}))["choices"][0]
    assert choice["finish_reason"] == "length"
    assert len(choice["message"]["content"]) == 12


def test_a_cap_is_charged_in_full_and_its_absence_by_the_reply() -> None:
    capped, free = _body("x" * 40, max_tokens=1000), _body("x" * 40)
    assert compose(capped, fingerprint(capped)).charge == 1010
    completion = compose(free, fingerprint(free))
    assert completion.charge == 10 + completion.completion_tokens


def test_content_in_parts_counts_as_its_text() -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "image_url", "image_url": {"url": "data:,"}}, {"text": "two"}]
    assert f"[{digest('one two')}]" in _reply(_body(parts))["choices"][0]["message"]["content"]


def test_a_refusal_is_a_reply_without_content() -> None:
    message = _reply(_body("say [[refuse]]"))["choices"][0]["message"]
    assert message["content"] is None
    assert message["refusal"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{not json", 400, None),
        (b'{"model":"m"}', 400, None),
        (b'{"model":"m","messages":[]}', 400, None),
        (b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}', 400, None),
        (b'[["array"]]', 400, None),
        (b"", 400, None),
        (_body(stream=True), 400, "unsupported_value"),
        (_body(max_tokens=0), 400, "integer_below_min_value"),
        (_body("x" * 512_008), 400, "context_length_exceeded"),
        (_body("a [[filter]] b"), 400, "content_filter"),
        (_body().replace(b"sim-small", b"unknown-9"), 404, "model_not_found"),
    ],
)
def test_a_wrong_request_is_refused_in_openais_words(body: bytes, status: int, code: str | None) -> None:
    answered, error = _refusal(body)
    assert (answered, error["code"]) == (status, code)
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}


def test_the_longest_prompt_that_fits_is_answered() -> None:
    assert _reply(_body("x" * 512_000))["usage"]["prompt_tokens"] == 128_000


def _long(content: str, mean: float, **extra: Any) -> dict[str, Any]:
    body = _body(content, **extra)
    reply: dict[str, Any] = json.loads(compose(body, fingerprint(body), mean).body)
    return reply


@given(st.text(max_size=300), st.floats(min_value=1, max_value=500), st.none() | st.integers(min_value=4, max_value=99))
def test_a_reply_of_any_length_keeps_its_digest_and_its_cap(question: str, mean: float, cap: int | None) -> None:
    extra = {} if cap is None else {"max_tokens": cap}
    reply = _long(question, mean, **extra)
    text = reply["choices"][0]["message"]["content"]
    tokens = reply["usage"]["completion_tokens"]
    assert reply == _long(question, mean, **extra)
    assert tokens == max(1, len(text) // 4)
    assert cap is None or tokens <= cap
    if tokens >= 3:
        assert text.endswith(f"[{digest(question)}]")


def test_lengths_vary_widely_around_their_mean() -> None:
    lengths = sorted(_long(str(row), 200)["usage"]["completion_tokens"] for row in range(4000))
    assert sum(lengths) / len(lengths) == pytest.approx(200, rel=0.06)
    assert lengths[200] < 50
    assert lengths[-200] > 500


def test_a_long_reply_that_its_cap_cut_says_length() -> None:
    lengths: dict[str, list[int]] = {"length": [], "stop": []}
    for row in range(100):
        reply = _long(str(row), 100, max_tokens=100)
        lengths[reply["choices"][0]["finish_reason"]].append(reply["usage"]["completion_tokens"])
    assert set(lengths["length"]) == {100}
    assert 10 < len(lengths["length"]) < 90
    assert min(lengths["stop"]) < 50


@pytest.mark.parametrize("content", ["Say it.", "say [[refuse]]"])
def test_a_reply_is_one_of_the_openai_package(content: str) -> None:
    ChatCompletion.model_validate(_reply(_body(content)))
