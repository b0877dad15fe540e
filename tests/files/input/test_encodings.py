"""Which encoding a text is of: another one than UTF-8 is told, and a broken row is not taken for one."""

import io

import pytest

from rowmill.core.errors import InputError
from rowmill.files.input.encodings import as_utf8, refuse_other, wide

GERMAN = "id;text\n1;schön\n2;Straße, 3 €\n"


def blocks(data: bytes, size: int = 1 << 18) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def refused(data: bytes, size: int = 1 << 18) -> str:
    with pytest.raises(InputError) as error:
        refuse_other("in.csv", blocks(data, size))
    return str(error.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (GERMAN.encode("cp1252"), "line 2: byte 13 (0xf6) is no UTF-8, nor is what else is not ASCII; set input.enco"),
        (GERMAN.encode("cp1252"), 'input.encoding = "cp1252"'),
        (b'{"t":"it\x92s"}\n', '"cp1252"'),
        (b'{"t":"\xe0 "\xe9""}\n', '"cp1252"'),
        ("a\né\n".encode() + b"\n".join([b"caf\xe9"] * 9), "line 3"),
        ("привет".encode("cp1251"), 'as "cp1251"'),
        ("日本語".encode("shift_jis"), '"shift_jis"'),
        ("中文文本".encode("gb18030"), '"gb18030"'),
        (b"x" * 100_000 + b"\ncaf\xe9\n", "line 2: byte 100004"),
    ],
)
def test_another_encoding_is_refused_with_the_place_and_what_to_set(data: bytes, words: str) -> None:
    assert refused(data).startswith("in.csv: line ")
    assert words in refused(data)
    assert words in refused(data, 16)


@pytest.mark.parametrize(
    "data",
    [
        b"plain",
        GERMAN.encode(),
        GERMAN.encode() + b"3;caf\xe9\n",  # one broken row of a file that is right
        b'{"t":"\xff\xfe not text"}\n',  # bytes that are no letters
        GERMAN.encode()[:-1] + "é".encode()[:1],
        b"",
    ],
)
def test_broken_rows_are_no_other_encoding(data: bytes) -> None:
    for size in (1, 2, 7, 1000):
        refuse_other("in.csv", blocks(data, size))


def test_a_character_that_is_cut_off_is_not_broken() -> None:
    refuse_other("in.csv", ["café".encode()[:-1]])


@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        ("utf-16", "utf-16"), ("utf-32", "utf-32"), ("utf-16-le", "utf-16-le"), ("utf-16-be", "utf-16-be"),
        ("utf-8", None), ("latin-1", None),
    ],
)  # fmt: skip
def test_wide_encodings_are_told_by_their_mark_or_their_nulls(encoding: str, found: str | None) -> None:
    assert wide(GERMAN.encode(encoding, "replace")) == found
    assert wide(b"") is None
    assert wide(b"a,b\n1,\0\n2,\0\0\n") is None


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "cp1252", "utf-8"])
def test_text_becomes_utf8_however_it_is_cut(encoding: str, size: int) -> None:
    data = io.BytesIO(GERMAN.encode(encoding))
    assert b"".join(as_utf8(iter(lambda: data.read(size), b""), "x", encoding)).decode() == GERMAN


def test_what_an_encoding_does_not_have_stays_for_its_row_to_fail() -> None:
    assert b"".join(as_utf8([b"a\x81b\n", b"c\n"], "x", "cp1252")) == b"a\x81b\nc\n"
    with pytest.raises(InputError, match=r"x: near byte 3: is no utf-16-le; set input\.encoding"):
        list(as_utf8(["a".encode("utf-16-le"), b"b"], "x", "utf-16-le"))
