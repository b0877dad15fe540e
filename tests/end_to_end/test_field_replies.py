"""Replies that are not one text: what is in them is kept, what is not in them is not asked for over and over."""

import json
from collections.abc import Callable
from typing import Any

from tests.end_to_end.conftest import Arrival, Place, Server

CALLS = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]
ROWS = 24


def choice(message: Any = None, finish_reason: str = "stop", **more: Any) -> tuple[int, dict[str, str], bytes]:
    members = {"index": 0, "finish_reason": finish_reason, **more}
    return completion(members if message is None else {**members, "message": message})


def completion(*choices: Any) -> tuple[int, dict[str, str], bytes]:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return 200, {}, json.dumps({"model": "m", "choices": choices, "usage": usage}).encode()


def test_withheld_and_empty_replies_are_the_rows_affair(place: Place, server: Callable[..., Server]) -> None:
    """More than half of all: a breaker that counted them would trip."""

    def decide(arrival: Arrival) -> Any:
        match arrival.row % 6:
            case 0:
                return choice(finish_reason="content_filter")
            case 1:
                return choice(finish_reason="SAFETY")
            case 2:
                return choice({"content": None, "reasoning_content": "hm"})
            case 3:
                return choice() if arrival.nth == 1 else None
            case 4:
                return choice({"content": "", "reasoning": "hm"})
        return None

    served = server(decide)
    place.configure(served.url)
    place.write_rows(ROWS)
    done = place.run()
    assert done.code == 1, done.err
    for row, line in enumerate(place.lines):
        asked = served.counts[row]
        match row % 6:
            case 0 | 1:
                assert (line["output"], line["finish_reason"], line["error"], asked) == ("", "content_filter", None, 1)
            case 2 | 4:
                error = line["error"]
                assert (error["class"], error["reply"], asked) == ("empty_reply", "hm", 2)
                assert error["message"] == "a chat completion without content: only reasoning, of 2 characters"
            case 3:
                assert (line["error"], asked) == (None, 2)
            case _:
                assert (line["error"], asked) == (None, 1)
    assert place.report["failures"] == {"empty_reply": ROWS // 3}


def test_calls_and_parts_are_in_the_output_of_every_format(place: Place, server: Callable[..., Server]) -> None:
    def decide(arrival: Arrival) -> Any:
        match arrival.row:
            case 0:
                return choice({"content": "text", "tool_calls": CALLS}, "tool_calls")
            case 1:
                return choice({"content": None, "tool_calls": CALLS}, "tool_calls")
            case 2:
                return choice({"content": None, "function_call": {"name": "f", "arguments": "{}"}}, "function_call")
            case 3:
                parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}]
                return choice({"content": parts})
        return choice({"content": "b"})

    expected = [
        {"content": "text", "tool_calls": CALLS},
        CALLS,
        {"content": None, "function_call": {"name": "f", "arguments": "{}"}},
        "a",
        "b",
    ]
    place.configure(server(decide).url)
    place.write_rows(5)
    done = place.run()
    assert done.code == 0, done.err
    assert [line["output"] for line in place.lines] == expected
    import csv

    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types

    for name in ("out.csv", "out.parquet"):
        assert place.run("--set", f"output.path={name}").code == 0
    with (place.folder / "out.csv").open(newline="") as file:
        texts = [row["output"] for row in csv.DictReader(file)]
    assert pq.read_table(place.folder / "out.parquet")["output"].to_pylist() == texts
    assert [json.loads(text) for text in texts[:3]] == expected[:3]
    assert texts[3:] == expected[3:]


def test_a_few_broken_bytes_are_not_paid_for_again(place: Place, server: Callable[..., Server]) -> None:
    bodies = [
        b'\xef\xbb\xbf{"choices":[{"message":{"content":"a"}}]}',
        b'{"choices":[{"message":{"content":"a\xff"}}]}',
        b'{"choices":[{"message":{"content":"a\nb\x01"}}]}',
        b'{"choices":[{"message":{"content":"a"}}],"usage":{"prompt_tokens":1,"cost":NaN}}',
        b'{"choices":[{"message":{"content":"a\\ud83d"}}]}',
    ]
    served = server(lambda arrival: (200, {}, bodies[arrival.row]))
    place.configure(served.url)
    place.write_rows(len(bodies))
    done = place.run()
    assert done.code == 0, done.err
    assert set(served.counts.values()) == {1}
    assert [line["output"] for line in place.lines] == ["a", "a\ufffd", "a\nb\x01", "a", "a\ufffd"]
