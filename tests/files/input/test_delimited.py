"""CSV and TSV: rows as the csv module reads them, and what is no row is told by its line."""

import csv
import io
import json
import tracemalloc
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.errors import InputError
from rowmill.core.rows import BROKEN
from rowmill.files.input import delimited
from rowmill.files.input.delimited import blocks, check_encoding, header

HEADER = "id,text\n"


def converted(data: bytes, *, delimiter: str = ",", encoding: str = "utf-8") -> list[bytes]:
    stream = io.BufferedReader(io.BytesIO(data))
    return b"".join(blocks(stream, "in.csv", delimiter=delimiter, encoding=encoding)).split(b"\n")[:-1]


def rows(data: bytes, *, delimiter: str = ",", encoding: str = "utf-8") -> list[Any]:
    return [json.loads(line) for line in converted(data, delimiter=delimiter, encoding=encoding)]


def as_the_csv_module(text: str, delimiter: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))


# Everything that means something to the parser, and characters that are taken for line ends elsewhere.
fields = st.lists(
    st.sampled_from(['"', '""', ",", "\t", "\n", "\r\n", "\r", " ", "", "a", "ü", "日本", "\u2028", "\x0b", "\0", "\\"])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    max_size=5,
).map("".join)


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, str]:
    """Return a table as text, written in one of the ways that there are, and its delimiter."""
    width = draw(st.integers(1, 4))
    names = draw(st.lists(fields.filter(bool), min_size=width, max_size=width, unique=True))
    lines = draw(st.lists(st.lists(fields, min_size=width, max_size=width), max_size=12))
    delimiter = draw(st.sampled_from([",", "\t"]))
    # Where a line ends with "\\n" alone the writer leaves a "\\r" in a field unquoted.
    ways: list[tuple[str, Literal[0, 1]]] = [
        ("\r\n", csv.QUOTE_MINIMAL),
        ("\r\n", csv.QUOTE_ALL),
        ("\n", csv.QUOTE_ALL),
    ]
    end, quoting = draw(st.sampled_from(ways))
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows([names, *lines])
    text = out.getvalue()
    return text.removesuffix(end) if draw(st.booleans()) else text, delimiter


@given(table=tables(), bom=st.booleans(), batch=st.sampled_from([1, 1 << 17]))
@settings(max_examples=60, deadline=None)
def test_rows_are_those_of_the_csv_module(table: tuple[str, str], bom: bool, batch: int) -> None:
    text, delimiter = table
    data = b"\xef\xbb\xbf" * bom + text.encode()
    if text.startswith("\ufeff"):
        return  # a mark of the text's own is one too
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "_BATCH", batch)
        assert rows(data, delimiter=delimiter) == as_the_csv_module(text, delimiter)


@given(st.lists(st.sampled_from(['"', ",", "\n", "\r", "a", " "]), max_size=30).map("".join))
@settings(max_examples=80, deadline=None)
def test_any_text_gives_a_line_for_each_row_of_the_csv_module_or_is_refused(text: str) -> None:
    expected = [row for row in csv.reader(io.StringIO("x,y\n" + text, newline="")) if row][1:]
    try:
        found = converted(b"x,y\n" + text.encode())
    except InputError as error:
        assert "never closed" in str(error)  # noqa: PT017 - most texts raise nothing
        assert list(csv.reader(io.StringIO(text + "\nend", newline="")))[-1] != ["end"], "a quote was open"
        return
    assert len(found) == len(expected)
    for line, row in zip(found, expected, strict=True):
        ends_empty = len(row) > 2 and not any(row[2:]) and not line.startswith(BROKEN)  # as every row does
        if len(row) == 2 or ends_empty:
            assert json.loads(line) == dict(zip("xy", row[:2], strict=True))
        else:
            assert line.startswith(BROKEN)


def test_blank_lines_are_no_rows_and_empty_fields_are_empty_texts() -> None:
    assert rows(b'\n\r\nid,text\n\n1,\n\r\n"",""\n\n') == [{"id": "1", "text": ""}, {"id": "", "text": ""}]
    assert rows(b'id\n\n""\n1\n') == [{"id": ""}, {"id": "1"}]


def test_commas_that_end_every_row_and_not_the_header_are_no_fields() -> None:
    assert all(line.startswith(BROKEN) for line in converted(b"id,text\n1,a,\n2,b,\n3,c\n")[:2]), "not every row"
    data = b"id,text\n" + b"".join(b"%d,a,,\n" % row for row in range(10)) + b"10,b\n"
    assert rows(data) == [{"id": str(row), "text": "b" if row == 10 else "a"} for row in range(11)]
    assert converted(data + b"11,c,,d\n")[-1].startswith(BROKEN + b"line 13: 4 fields where the header has 2")


def test_a_row_with_too_many_or_too_few_fields_is_broken_and_takes_its_place() -> None:
    data = b'id,text\n1,a\n2,"x\ny",c\n\n3\n4,d\n'
    assert converted(data) == [
        b'{"id":"1","text":"a"}',
        BROKEN + b"line 3: 3 fields where the header has 2" + BROKEN + b'{"id":"2","text":"x\\ny"}',
        BROKEN + b"line 6: 1 fields where the header has 2" + BROKEN + b'{"id":"3"}',
        b'{"id":"4","text":"d"}',
    ]


def test_bytes_that_the_encoding_does_not_have_break_one_row() -> None:
    data = b"id,text\n1,a\n2,caf\xe9\n3,b\n"
    assert converted(data) == [
        b'{"id":"1","text":"a"}',
        BROKEN + b"line 3: column 'text' is no utf-8; see input.encoding",
        b'{"id":"3","text":"b"}',
    ]
    assert rows(data, encoding="latin-1")[1] == {"id": "2", "text": "café"}
    assert converted(b"id,text\n1,a\n2,\xff,\n")[1] == BROKEN + b"line 3: 3 fields where the header has 2"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "cp1252", "shift_jis", "utf-8-sig", "UTF8"])
def test_other_encodings_are_read(encoding: str) -> None:
    text = "id,text\r\n1,ab\r\n2,~\r\n"
    assert rows(text.encode(encoding), encoding=encoding) == [{"id": "1", "text": "ab"}, {"id": "2", "text": "~"}]


def test_a_file_that_its_encoding_cannot_go_on_with_is_refused_by_its_line() -> None:
    data = "id\n1\n2\n".encode("utf-16") + b"\0"
    with pytest.raises(InputError, match=r"in\.csv: near line \d: is no utf-16; set input\.encoding"):
        converted(data, encoding="utf-16")


@pytest.mark.parametrize("name", ["utf8", "cp1252", "utf-16"])
def test_encodings_that_exist_are_taken(name: str) -> None:
    check_encoding(name)


@pytest.mark.parametrize("name", ["utf-9", "", "base64", "a\0b", "idna", "punycode", "undefined"])
def test_an_encoding_that_does_not_exist_names_the_key(name: str) -> None:
    with pytest.raises(InputError, match=r"input\.encoding: there is no encoding"):
        check_encoding(name)


def test_names_that_json_has_to_escape_are_columns_like_others() -> None:
    assert rows(b'"say ""hi""","back\\slash"\n1,2\n') == [{'say "hi"': "1", "back\\slash": "2"}]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"a,b,a\n", r"columns 1 and 3 of the header are both named 'a'; rename one"),
        (b"a,caf\xe9\n", r"the header is no utf-8; set input\.encoding"),
        (b'a,"b\n1,2\n', r"line 1: a quote opens in the row that begins there and is never closed"),
        (b"", r"is empty; its first line must be a header"),
        (b"\n\r\n", r"is empty; its first line must be a header"),
    ],
)
def test_a_header_that_is_none_is_refused(data: bytes, what: str) -> None:
    with pytest.raises(InputError, match=r"in\.csv: " + what):
        header(io.BufferedReader(io.BytesIO(data)), "in.csv", delimiter=",", encoding="utf-8")


def test_a_header_alone_and_an_empty_file_have_no_rows() -> None:
    assert converted(b"a,b\n") == []
    assert converted(b"") == []


def test_a_quote_that_is_never_closed_is_refused_by_the_line_of_its_row() -> None:
    with pytest.raises(InputError, match=r"line 4: a quote opens in the row that begins there and is never closed"):
        converted(b'id,text\n1,"a\nb"\n2,"c\n3,d\n4,e\n')


def test_a_field_beyond_all_measure_is_refused_and_one_of_ten_megabytes_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = b"x" * 10_000_000
    assert rows(b'id\n"' + long + b'"\n') == [{"id": long.decode()}]
    monkeypatch.setattr(delimited, "_FIELD_CHARACTERS", 200_000)
    limit = csv.field_size_limit(0)
    try:
        with pytest.raises(InputError, match=r"line 3: the row that begins there cannot be read: .*limit.*not closed"):
            converted(b'id\n1\n"' + b"y\n" * 200_000)
    finally:
        csv.field_size_limit(limit)


def test_memory_does_not_grow_with_the_file() -> None:
    piece = b"1," + b"x" * 990 + b"\n"

    class Endless(io.RawIOBase):
        left = 12 << 20

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            if self.left <= 0:
                return 0
            self.left -= len(piece)
            buffer[: len(piece)] = piece
            return len(piece)

    stream = io.BufferedReader(Endless(), 1 << 18)
    peak, count = 0, 0
    tracemalloc.start()
    try:
        for block in blocks(stream, "in.csv", delimiter=",", encoding="utf-8"):
            count += block.count(b"\n")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == (12 << 20) // len(piece)
    assert peak < 3 << 20


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("lines", [63, 64, 65, 1000, 300_000])
def test_rows_behind_ever_so_many_blank_lines_are_read(newline: str, lines: int) -> None:
    """No line is lost, none is counted wrong, and blank lines within quotes stay."""
    blank = newline * lines
    text = f'{blank}a,b{newline}{blank}1,"x{newline * 200}"{newline}{blank}2,y{newline}3{newline}{blank}4,"z"{blank}'
    first, second, broken, last = converted(text.encode())
    assert [json.loads(line) for line in (first, second, last)] == [
        {"a": "1", "b": f"x{newline * 200}"},
        {"a": "2", "b": "y"},
        {"a": "4", "b": "z"},
    ]
    assert broken.startswith(BROKEN + f"line {3 * lines + 204}: 1 fields".encode())
