"""Rows on a terminal: what was asked and what came back, and nothing that a reply could do to the terminal."""

from typing import Any

import pytest

from rowmill.interface.ui.replies_text import reply_text

LINE: dict[str, Any] = {"index": 3, "id": 3, "output": "Yes.", "error": None, "finish_reason": "stop"}
CHAT = {"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Is it?\nReally?"}]}


def test_a_row_with_its_prompt() -> None:
    assert reply_text({**LINE, "prompt": CHAT}, 80).splitlines() == [
        "row 3",
        "  system   Be short.",
        "  user     Is it?",
        "           Really?",
        "  reply    Yes.",
    ]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"id": "a\nb"}, "row 3  id a b"),
        ({"finish_reason": "length"}, "row 3  length"),
        ({"output": {"topic": "x"}}, "  reply    {"),
        ({"output": ""}, "  reply"),
        ({"prompt": {"input": "Why?"}}, "  asked    Why?"),
        ({"prompt": {"input": ["a", "b"]}}, "  asked    ["),
        ({"prompt": {"instructions": "Be kind.", "input": "x"}}, "  system   Be kind."),
        (
            {"prompt": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Look"}]}]}},
            "  user     Look",
        ),
        ({"prompt": "odd"}, "row 3"),
        (
            {"output": None, "error": {"class": "server_error", "status": 500, "message": "broken", "reply": "half"}},
            "  failed   server_error, HTTP 500: broken",
        ),
        ({"output": None, "error": {"class": "timeout", "message": None}}, "  failed   timeout:"),
    ],
)
def test_what_else_there_is_has_its_line(change: dict[str, Any], line: str) -> None:
    assert line in reply_text({**LINE, **change}, 80).splitlines()


def test_a_reply_cannot_move_the_cursor_or_change_colours() -> None:
    evil = "\x1b[2J\x1b]0;title\x07 \x9b31m\u202e ok"
    text = reply_text({**LINE, "output": evil, "prompt": {"messages": [{"role": "\x1b[1m", "content": evil}]}}, 80)
    assert not set(text) & {"\x1b", "\x07", "\x9b"}
    assert "ok" in text


def test_long_texts_are_wrapped_or_cut() -> None:
    line = {**LINE, "output": "word " * 500}
    assert max(map(len, reply_text(line, 60).splitlines())) <= 60
    assert reply_text(line, 60).count("word") == 500
    assert len(reply_text(line, 60, most=100)) < 200
