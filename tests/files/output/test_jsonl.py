"""JSON Lines: the lines as they are, and vectors as lists."""

import base64
import json
import struct
from collections.abc import Callable

from rowmill.core.config.sections import OutputConfig
from rowmill.core.rows import Layout
from rowmill.files.output import open_codec

Joined = Callable[..., bytes]
Made = Callable[..., bytes]

CONFIG = OutputConfig(path="o.jsonl")


def test_lines_are_left_as_they_are(joined: Joined, result: Made, failed: Made) -> None:
    lines = [result(0, b'{"a": 1.50}'), failed(1), result(2, b'"%b"' % (b"x" * 200_000)), result(3, b'"\\ud800"')]
    made = joined(open_codec(CONFIG, Layout()), [lines[:3], [], lines[3:]])
    assert made == b"".join(line + b"\n" for line in lines)


def test_vectors_become_lists_and_nothing_else_changes(joined: Joined, result: Made, failed: Made) -> None:
    vectors = [[0.1, -2.5], [], [1 / 3] * 5]
    coded = [base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)) for vector in vectors]
    odd_id = b'",\\"output\\":\\"AAAA\\""'
    include = b',"input":{"output":"AAAA"}'
    lines = [result(n, b'"%b"' % each, row_id=odd_id, include=include) for n, each in enumerate(coded)]
    lines.insert(1, failed(9, row_id=odd_id, include=include))
    made = joined(open_codec(CONFIG, Layout(vectors=True)), [lines]).splitlines()
    before, read = [json.loads(line) for line in lines], [json.loads(line) for line in made]
    assert [row.pop("output") for row in read] == [[0.1, -2.5], None, [], [0.33333334] * 5]
    for row in before:
        del row["output"]
    assert read == before


def test_a_vector_with_escaped_slashes_is_read_right(joined: Joined, result: Made) -> None:
    coded = base64.b64encode(b"\xff\xff\x7f\x3f" * 3)
    assert b"/" in coded
    made = joined(open_codec(CONFIG, Layout(vectors=True)), [[result(0, b'"%b"' % coded.replace(b"/", b"\\/"))]])
    assert json.loads(made)["output"] == [0.99999994] * 3


def test_more_vectors_than_are_converted_at_once(joined: Joined, result: Made) -> None:
    lines = [result(n, b'"%b"' % base64.b64encode(struct.pack("<f", n))) for n in range(150)]
    made = joined(open_codec(CONFIG, Layout(vectors=True)), [lines]).splitlines()
    assert [json.loads(line)["output"] for line in made] == [[float(n)] for n in range(150)]
