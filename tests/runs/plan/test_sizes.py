"""The tokens of a request, told from its body."""

import json
from typing import Any

import pytest

from rowmill.runs.plan.sizes import MOST_GUESSED, size_of, text_tokens


def size(api: str = "chat.completions", rows: int = 1, **body: Any) -> Any:
    return size_of(json.dumps({"model": "m", **body}).encode(), api, rows)


def message(content: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("four", 1), ("x" * 400, 100), ("的" * 10, 10), ("ж" * 10, 5), ("🙂", 1.5), ("abcdé", 1.5)],
)
def test_text_is_dense_beyond_ascii(text: str, tokens: float) -> None:
    assert text_tokens(text) == tokens


def test_only_what_the_model_sees_counts() -> None:
    asked = [message("s" * 40, "system"), message("u" * 80)]
    assert size(messages=asked).prompt == 10 + 20 + 2 * 3
    assert size(messages=asked, temperature=0.123456789, metadata={"a": "b" * 100}).prompt == 36
    assert size(messages=[message([{"type": "text", "text": "u" * 80}])]).prompt == 23


def test_line_breaks_and_quotes_count_once_however_they_are_written() -> None:
    assert size(messages=[message('\n"\t\\' * 4)]).prompt == 4 + 3


def test_an_image_counts_by_itself_and_not_by_its_bytes() -> None:
    parts = [{"type": "text", "text": "four"}, {"type": "image_url", "image_url": {"url": "data:" + "x" * 100_000}}]
    assert size(messages=[message(parts)]).prompt == 1 + 1000 + 3


def test_schemas_and_tools_are_part_of_the_prompt() -> None:
    schema = {"type": "object", "properties": {"label": {"type": "string"}}}
    plain = size(messages=[message("four")])
    asked = {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}}
    with_schema = size(messages=[message("four")], response_format=asked)
    assert with_schema.prompt - plain.prompt == len(json.dumps(schema)) / 4
    assert size(messages=[message("four")], tools=[schema]).prompt > plain.prompt


@pytest.mark.parametrize(
    ("api", "body", "tokens"),
    [
        ("responses", {"input": "x" * 40, "instructions": "y" * 40}, 10 + 10 + 3),
        ("responses", {"input": [message("x" * 40), message("y" * 40)]}, 20 + 6),
        ("completions", {"prompt": "x" * 40}, 10),
        ("embeddings", {"input": "x" * 40}, 10),
        ("embeddings", {"input": ["x" * 40, "y" * 40]}, 20),
        ("embeddings", {"input": [1, 2, 3]}, 3),
        ("moderations", {"input": "x" * 40}, 10),
    ],
)
def test_every_api_has_its_prompt_where_it_stands(api: str, body: dict[str, Any], tokens: float) -> None:
    assert size(api, **body).prompt == tokens


@pytest.mark.parametrize("api", ["embeddings", "moderations"])
def test_some_apis_reply_without_tokens(api: str) -> None:
    found = size(api, input="x")
    assert (found.least_reply, found.reply, found.most_reply) == (0, 0, 0)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_a_reply_is_guessed_to_be_half_its_cap(name: str) -> None:
    found = size_of(json.dumps({name: 120}).encode(), "chat.completions", 1)
    assert (found.least_reply, found.reply, found.most_reply, found.cap) == (12, 60, 120, 120)


def test_a_large_cap_says_little_and_none_says_nothing() -> None:
    assert size(messages=[message("four")], max_tokens=16_000).reply == MOST_GUESSED
    found = size(messages=[message("four")])
    assert (found.least_reply, found.reply, found.most_reply, found.cap) == (32, 256, 1024, None)
    assert size(messages=[message("four")], rows=10).reply == 2560
    assert size(messages=[message("four")], max_tokens=100, n=3).reply == 150


@pytest.mark.parametrize("body", [b"", b"[]", b'{"messages": 5}', b'{"messages": [5]}', b"\xff", b'{"model": 5}'])
def test_a_body_of_any_shape_has_some_size(body: bytes) -> None:
    found = size_of(body, "chat.completions", 1)
    assert found.prompt >= 0
    assert found.model is None
