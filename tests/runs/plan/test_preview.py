"""A request as it is shown."""

import json

from rowmill.runs.plan.preview import shortened


def test_what_is_short_is_shown_as_it_is() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "two\nlines"}], "temperature": 0}
    shown = shortened(json.dumps(body).encode())
    assert json.loads(shown) == body
    assert shown.splitlines()[2:5] == ['  "messages": [', '    {"role": "user", "content": "two\\nlines"}', "  ],"]


def test_long_texts_and_lists_are_cut_and_say_so() -> None:
    shown = json.loads(shortened(json.dumps({"input": ["x" * 1000, *"abcdef"]}).encode()))
    assert shown["input"][0] == "x" * 400 + "... (1,000 characters)"
    assert shown["input"][-1] == "... (7 in all)"
    assert len(shown["input"]) == 5


def test_a_body_of_any_shape_is_shown_in_bounds() -> None:
    assert shortened(b"no json") == "no json"
    many = shortened(json.dumps({str(key): "x" * 390 for key in range(100)}).encode())
    assert len(many) < 4100
    assert many.endswith("characters)")


def test_what_is_named_like_a_key_is_not_shown() -> None:
    shown = json.loads(shortened(json.dumps({"gateway": {"api_key": "gw-123456"}, "max_tokens": 5}).encode()))
    assert shown["gateway"]["api_key"].startswith("[hidden ")
    assert shown["max_tokens"] == 5
