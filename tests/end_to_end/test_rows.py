"""Rows as they come in real files: a result or a classified failure each, never a shift, never a crash."""

import json
from collections.abc import Callable

import msgspec
import pytest

from rowmill.simulator.replies import digest
from tests.end_to_end.conftest import Place, Witness

BIG = "big " * 2_500_000  # 10 MB

# What stands in the line, and what must come of it: the user message that is answered, or the failure's class.
ROWS: list[tuple[bytes, str, str]] = [
    (b'{"id":"first","text":"behind a byte order mark"}', "ok", "behind a byte order mark"),
    (b'{"id":"dup","text":"one"}', "ok", "one"),
    (b'{"id":"dup","text":"two"}', "ok", "two"),
    (b"", "invalid_row", "blank"),
    (b"   \t ", "invalid_row", "blank"),
    (b'{"id":"crlf","text":"carriage return"}\r', "ok", "carriage return"),
    (b'{"id":"utf","text":"\xff\xfe not utf-8"}', "invalid_row", "no JSON object"),
    (b"[1, 2, 3]", "invalid_row", "no JSON object"),
    (b'"a text"', "invalid_row", "no JSON object"),
    (b"null", "invalid_row", "no JSON object"),
    (b"not json at all", "invalid_row", "no JSON object"),
    (b'{"id":"cut","text":"cut', "invalid_row", "no JSON object"),
    (b'{"id":"two","text":"objects"}{"id":"in","text":"one line"}', "invalid_row", "no JSON object"),
    (b'{"id":"none"}', "invalid_row", "no column 'text'"),
    (b'{"text":"no id"}', "invalid_row", "no column 'id'"),
    (b'{"id":"null","text":null}', "ok", ""),
    (b'{"id":null,"text":"null id"}', "ok", "null id"),
    (b'{"id":7.5,"text":12}', "ok", "12"),
    (b'{"id":{"a":1},"text":"odd id"}', "invalid_row", "neither text nor a number"),
    (b'{"id":"list","text":["a",{"b":null}]}', "ok", '["a",{"b":null}]'),
    (b'{"id":"braces","text":"{text} {{}} %s %d \\\\ \\u0000 \\n"}', "ok", "{text} {{}} %s %d \\ \0 \n"),
    ('{"id":"ünïcode","text":"日本語 🎉 \\ud83d\\ude00"}'.encode(), "ok", "日本語 🎉 😀"),
    (b'{"id":"half","text":"half a pair \\ud83d"}', "invalid_row", "'text' holds half a surrogate pair"),
    (b'{"id":"deep","text":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_row", "no JSON object"),
    (b'{"id":"deep aside","other":' + b"[" * 100_000 + b"]" * 100_000 + b',"text":"x"}', "invalid_row", "no JSON"),
    (b'{"id":"twice","text":"a","text":"b"}', "ok", "b"),
    (b'{"id":"filter","text":"[[filter]]"}', "content_filter", "content filter"),
    (b'{"id":"refuse","text":"[[refuse]]"}', "content_filter", "can't help"),
    (json.dumps({"id": "big", "text": BIG}).encode(), "context_length", "maximum context length"),
    (b'{"id":"after","text":"after the big one"}', "ok", "after the big one"),
    (b'{"id":"last","text":"without a newline"}', "ok", "without a newline"),
]


@pytest.fixture
def done(place: Place, simulator: Callable[..., Witness]) -> Place:
    place.configure(simulator().url)
    place.input.write_bytes(b"\xef\xbb\xbf" + b"\n".join(line for line, _, _ in ROWS))
    run = place.run()
    assert (run.code, run.out) == (1, ""), run.err
    assert "Traceback" not in run.err
    return place


def test_odd_rows_are_answered_or_fail_alone_and_nothing_shifts(done: Place) -> None:
    lines = done.lines
    assert [line["index"] for line in lines] == list(range(len(ROWS)))
    for (source, kind, text), line in zip(ROWS, lines, strict=True):
        if kind == "ok":
            assert line["error"] is None, (source[:60], line)
            assert line["output"].endswith(f" [{digest(f'Summarise in one line:{chr(10)}{text}')}]"), (
                source[:60],
                line,
            )
        else:
            assert (line["output"], line["error"]["class"]) == (None, kind), (source[:60], line)
            assert text in line["error"]["message"], (source[:60], line)
    ids = [line["id"] for line in lines]
    assert ids[:3] == ["first", "dup", "dup"]
    assert ids[16:18] == [None, 7.5]
    assert ids[-1] == "last"


def test_failed_rows_are_listed_once_each_in_order(done: Place) -> None:
    expected = [index for index, (_, kind, _) in enumerate(ROWS) if kind != "ok"]
    assert [row["index"] for row in done.failed] == expected
    for row in done.failed:
        line = done.lines[row["index"]]
        assert row == {"index": row["index"], "id": line["id"], **line["error"], "attempts": 1}
    kinds = [kind for _, kind, _ in ROWS if kind != "ok"]
    assert done.report["failures"] == {kind: kinds.count(kind) for kind in set(kinds)}
    assert done.report["totals"]["failed"] == len(kinds)


def test_the_input_is_given_back_as_it_was(place: Place, simulator: Callable[..., Witness]) -> None:
    """Every output line stays one line of JSON, whatever stands in the input that it includes."""
    place.configure(simulator().url)
    lines = [line for line, _, _ in ROWS if len(line) < 1000]
    place.input.write_bytes(b"\r\n".join(lines) + b"\r\n")
    run = place.run("--set", "output.include=['input']")
    assert run.code == 1, run.err
    out = place.lines
    assert len(out) == len(lines)
    for source, line in zip(lines, out, strict=True):
        try:
            expected = msgspec.json.decode(source)
        except (msgspec.DecodeError, UnicodeDecodeError):
            expected = None
        assert line["input"] == expected
