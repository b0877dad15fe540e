"""Rows on a terminal: what was asked and what came back, and nothing that a reply could do to the terminal."""

from typing import Any

import pytest
from rich.cells import cell_len

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
        ({"finish_reason": "length"}, "row 3  finish_reason length"),
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


PICTURE = "data:image/png;base64," + "A" * 1_000_000


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"output": [0.25, -1, *[0.5] * 1534]}, "  reply    1,536 numbers: 0.25, -1, 0.5, ..."),
        ({"output": [0.25, -1]}, "    0.25,"),
        ({"output": {"vector": [None] * 20}}, '"20 numbers: null, null, null, ..."'),
        ({"output": f"see {PICTURE} there"}, "  reply    see data:image/png;base64,... (750 kB) there"),
        (
            {
                "prompt": {
                    "messages": [{"role": "user", "content": [{"image_url": {"url": PICTURE}}, {"text": "What?"}]}]
                }
            },
            '"url": "data:image/png;base64,... (750 kB)"',
        ),
        ({"prompt": {"input": [{"input_audio": {"data": "A" * 4000}}]}}, '"data": "3 kB of base64"'),
        ({"output": {"choices": [{"message": {"content": "Kept whole."}}], "usage": {}}}, "  reply    Kept whole."),
        ({"output": {"choices": [{"message": {"content": None}}]}}, '"content": null'),
        ({"output": {"choices": ["a"]}}, '"choices": ['),
    ],
)
def test_what_nobody_reads_is_told_in_a_few_words(change: dict[str, Any], text: str) -> None:
    shown = reply_text({**LINE, **change}, 80)
    assert text in shown
    assert len(shown) < 1000


@pytest.mark.parametrize(
    "text", ["x" * 300, "\u6f22\u5b57" * 150, "\U0001f600 word " * 60, "e\u0301" * 200, "a-b " * 100]
)
def test_a_line_is_as_wide_as_the_terminal_whatever_its_letters(text: str) -> None:
    lines = reply_text({**LINE, "output": text}, 60).splitlines()[1:]
    assert max(map(cell_len, lines)) <= 60
    assert min(map(cell_len, lines[:-1])) > 50
    assert "".join(line[11:] for line in lines).replace(" ", "") == text.replace(" ", "")


def test_names_of_any_length_take_a_line_at_most() -> None:
    long = "n" * 100_000
    line = {**LINE, "id": long, "finish_reason": long, "prompt": {"messages": [{"role": long, "content": "Hello."}]}}
    first, asked, reply = reply_text(line, 60).splitlines()
    assert len(first) < 200
    assert (asked, reply) == ("  nnnnnnnnnnnnn... Hello.", "  reply    Yes.")


def test_what_is_clipped_keeps_its_lines_and_few_of_them() -> None:
    line = {**LINE, "output": {"topic": "x"}}
    assert reply_text(line, 60, most=100) == reply_text(line, 60)
    many = reply_text({**LINE, "output": "\n".join(map(str, range(100)))}, 60, most=600).splitlines()
    assert (len(many), many[1], many[-1]) == (13, "  reply    0", "           11...")


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
