"""What a CSV file's first rows say of it: its delimiter, and columns that have no name."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.files.input.dialect import Columns, columns_of, declared, sniffed


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("id;text\n1;hi, you\n2;a, b, c\n", ";"),
        ("id;price\n1;3,5\n2;4,5\n", ";"),
        ('id;text\n1;"a;b"\n2;"c,d"\n', ";"),
        ('id,text\n1,"a;b;c"\n2,"c;d"\n', ","),
        ('"id;x",text\n1,"a"\n', ","),
        ("id\ttext\n1\ta,b\n2\tc;d\n", "\t"),
        ("id|text\r\n1|a,b\r\n2|c\r\n", "|"),
        ("id|text\r1|a,b\r2|c\r", "|"),
        # A comma in the header too: with a space behind it, or in the header alone, it is one of prose.
        ("name;addr, city;z\nDoe;1 St, X;3\nRoe;2 St, Y;4\n", ";"),
        ("id;a,b\n1;x\n2;y\n3;z, z, z\n", ";"),
        # No row but the header, and one column: nothing to tell.
        ("a;b;c\n", ";"),
        ("a,b\n", ","),
        ("text\nhello, you\nfoo; bar\n", ","),
        ("text\n", ","),
        ("", ","),
        # Ragged rows, and commas at the ends of lines.
        ("a,b\n1,2\n1,2,3\n1\n4,5\n", ","),
        ("a;b;\n1;2\n3;4\n", ";"),
        ("a;b\n1;2;\n3;4;\n", ";"),
        ("\n\n;id;text\n0;1;a,b\n", ";"),
        # Excel's own way:
        ("sep=;\nid;text\n", ";"),
        ("SEP=|\r\na,b\r\n", "|"),
        ('"sep=\t"\na,b\n', "\t"),
        # An open quote: what is there tells.
        ('a;b\n1;"x\n', ";"),
    ],
)
def test_the_delimiter_is_the_one_that_header_and_rows_agree_on(text: str, delimiter: str) -> None:
    assert sniffed(text, ",", whole=True) == delimiter


def test_the_delimiter_of_the_name_goes_before_where_both_would_do() -> None:
    both = "a,b\tc\n1,2\t3\n"
    assert sniffed(both, ",", whole=True) == ","
    assert sniffed(both, "\t", whole=True) == "\t"
    assert sniffed("a,b\n1,2\n", "\t", whole=True) == ","


def test_a_row_that_is_cut_off_does_not_count() -> None:
    assert sniffed("a;b\n1;2,3\n1,", ",", whole=False) == ";"
    assert sniffed("a;b", ",", whole=False) == ";"


@given(
    rows=st.lists(st.tuples(*[st.text(st.sampled_from('a1,;|\t "\n. '), max_size=12)] * 3), min_size=4, max_size=30),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
)
@settings(max_examples=80, deadline=None)
def test_quoted_files_are_told_whatever_stands_in_their_fields(
    rows: list[tuple[str, str, str]], delimiter: str
) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("id", "text", "more"), *rows])
    assert sniffed(out.getvalue(), ",", whole=True) == delimiter


@pytest.mark.parametrize(
    ("line", "delimiter"),
    [("sep=;\n", ";"), ('"sep=,"\r\n', ","), ("\ufeffsep=\t", "\t"), ("sep=;;\n", None), ("separator\n", None)],
)
def test_a_declared_delimiter_is_one_sign(line: str, delimiter: str | None) -> None:
    assert declared(line) == delimiter


@pytest.mark.parametrize(
    ("header", "rows", "columns"),
    [
        (["a", "b"], [["1", "2"]], Columns(["a", "b"], [], 0)),
        (["", "a"], [["1", "2"]], Columns(["column_1", "a"], [1], 0)),
        (["a", "", "b"], [], Columns(["a", "column_2", "b"], [2], 0)),
        (["", "column_1"], [], Columns(["column_1_", "column_1"], [1], 0)),
        (["a", ""], [["1", ""], ["1"]], Columns(["a"], [], 1)),
        (["a", "", "", ""], [["1", "", "", ""]], Columns(["a"], [], 3)),
        (["a", "", ""], [["1", "2", ""]], Columns(["a", "column_2"], [2], 1)),
        (["a", ""], [["1", "2"], ["1", ""]], Columns(["a", "column_2"], [2], 0)),
    ],
)
def test_a_column_without_a_name_is_called_by_its_place(
    header: list[str], rows: list[list[str]], columns: Columns
) -> None:
    assert columns_of(header, rows) == columns
