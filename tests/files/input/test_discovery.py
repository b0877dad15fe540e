"""What a path stands for: which files, in which order, of which format; and what is refused, naming files and keys."""

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types
import pytest

from rowmill.core.config.sections import InputConfig
from rowmill.core.errors import InputError
from rowmill.files.input.discovery import FEW, find_files, takes_in

JSONL, CSV = b'{"a":"1"}\n', b"a,b\n1,2\n"


def make(folder: Path, **files: bytes) -> Path:
    """Make files; a "__" in a name stands for a dot."""
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


def found(path: object, **more: Any) -> list[tuple[str, str]]:
    return [(Path(each.file.path).name, each.format) for each in find_files(InputConfig(path=str(path), **more))]


@pytest.mark.parametrize(
    ("name", "content", "format_"),
    [
        ("in.jsonl", JSONL, "jsonl"),
        ("in.NDJSON", JSONL, "jsonl"),
        ("in.json-lines", JSONL, "jsonl"),
        ("in.jsonl.gz", gzip.compress(JSONL, mtime=0), "jsonl"),
        ("in.csv", CSV, "csv"),
        ("in.csv.zst", pa.compress(CSV, codec="zstd", asbytes=True), "csv"),
        ("in.tsv", b"a\tb\n", "tsv"),
        ("in.parquet", b"PAR1", "parquet"),
        ("in.arrow", b"", "arrow"),
        # By content where the name says nothing:
        ("in", b'\xef\xbb\xbf\n {"a":1}', "jsonl"),
        ("in.json", JSONL, "jsonl"),
        ("in.data", gzip.compress(JSONL, mtime=0), "jsonl"),
        ("in.data", b"PAR1.....", "parquet"),
        ("in.feather", b"ARROW1..", "arrow"),
        ("in.txt", b"", "jsonl"),
        # A name is believed as to what rows look like:
        ("in.jsonl", b"nonsense\n", "jsonl"),
        ("in.csv", JSONL, "csv"),
    ],
)
def test_the_format_is_told_by_the_name_and_else_by_the_content(
    tmp_path: Path, name: str, content: bytes, format_: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert found(tmp_path / name) == [(name, format_)]
    (each,) = find_files(InputConfig(path=str(tmp_path / name)))
    assert each.compressed == (content[:2] in (b"\x1f\x8b", b"\x28\xb5"))
    assert (each.file.size, each.file.mtime_ns) == (len(content), (tmp_path / name).stat().st_mtime_ns)


def test_a_format_that_is_configured_goes_before_the_name(tmp_path: Path) -> None:
    make(tmp_path, in__txt=CSV, in__csv=b"a\tb\n", rows=JSONL)
    assert found(tmp_path / "in.txt", format="csv") == [("in.txt", "csv")]
    assert found(tmp_path / "in.csv", format="tsv") == [("in.csv", "tsv")]
    assert found(tmp_path / "rows", format="batch") == [("rows", "batch")]


def test_a_directory_is_its_data_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    make(
        tmp_path, part_10__jsonl=JSONL, part_2__jsonl__gz=gzip.compress(JSONL), B__jsonl=JSONL, a__jsonl=b"",
        _SUCCESS=b"", README__md=b"# text", dataset_info__json=b"{}", state__json=b"{}", notes__txt=b"text",
    )  # fmt: skip
    make(tmp_path, __hidden__jsonl=b"nonsense", _part__jsonl=b"", __part_2__jsonl__crc=b"crc")
    (tmp_path / "state.json").unlink()  # with it the directory would be a saved dataset
    (tmp_path / "out.jsonl.run").mkdir()
    expected = ["B.jsonl", "a.jsonl", "part_10.jsonl", "part_2.jsonl.gz"]
    assert found(tmp_path) == [(name, "jsonl") for name in expected]
    with pytest.raises(InputError, match=r"notes\.txt: is of no known format; set input\.format, or input\.path to"):
        found(f"{tmp_path}/*")  # what matches was asked for
    (tmp_path / "notes.txt").unlink()
    assert found(f"{tmp_path}/*") == [(name, "jsonl") for name in expected]


def test_a_directory_without_telling_names_is_what_its_files_hold(tmp_path: Path) -> None:
    make(tmp_path, part_00001=JSONL, part_00000=JSONL, log=b"some text")
    assert found(tmp_path) == [("part_00000", "jsonl"), ("part_00001", "jsonl")]


def test_a_glob_is_the_files_that_match_and_no_directories(tmp_path: Path) -> None:
    make(tmp_path, b__csv=CSV, a__csv=CSV, c__jsonl=JSONL, _x__csv=CSV)
    (tmp_path / "z.csv").mkdir()
    assert found(tmp_path / "*.csv") == [("a.csv", "csv"), ("b.csv", "csv")]
    (tmp_path / "sub").mkdir()
    make(tmp_path / "sub", a__csv=CSV)
    found_below = [each.file.path for each in find_files(InputConfig(path=f"{tmp_path}/**/*.csv"))]
    assert found_below == [f"{tmp_path}/a.csv", f"{tmp_path}/b.csv", f"{tmp_path}/sub/a.csv"]


def test_a_file_whose_name_is_a_glob_is_that_file(tmp_path: Path) -> None:
    make(tmp_path, **{"in[1]__jsonl": JSONL, "in1__jsonl": JSONL})
    assert found(tmp_path / "in[1].jsonl") == [("in[1].jsonl", "jsonl")]


@pytest.mark.parametrize("path", ["", "/*"])
@pytest.mark.parametrize("format_", ["auto", "csv"])
def test_two_formats_are_refused_naming_a_file_of_each(tmp_path: Path, path: str, format_: str) -> None:
    make(tmp_path, a__csv=CSV, b__csv=CSV, c__jsonl=JSONL, d__jsonl=JSONL)
    with pytest.raises(InputError, match=r"a\.csv is of format csv, but .*c\.jsonl is jsonl; .* such as .*/\*\.csv"):
        found(f"{tmp_path}{path}", format=format_)


def test_two_formats_are_refused_by_content_too(tmp_path: Path) -> None:
    make(tmp_path, one=JSONL, two=b"PAR1....")
    with pytest.raises(InputError, match=r"one is of format jsonl, but .*two is parquet"):
        found(f"{tmp_path}/*")


def test_a_dataset_directory_is_read_by_its_split(tmp_path: Path) -> None:
    for name in ("train", "test"):
        pq.write_table(pa.table({"a": [1]}), tmp_path / f"{name}-00000-of-00001.parquet")
    assert found(tmp_path, split="test") == [("test-00000-of-00001.parquet", "parquet")]
    with pytest.raises(InputError, match=r"splits train, test; set input\.split"):
        found(tmp_path)


def test_nothing_found_says_what_would_be(tmp_path: Path) -> None:
    for path, what in (
        (tmp_path / "absent.jsonl", r"absent\.jsonl: no such file; set input\.path"),
        (tmp_path / "*.csv", r"\*\.csv: no file matches; set input\.path"),
        (tmp_path, r"holds no files of rows \(\.jsonl, .*\); set input\.path"),
    ):
        with pytest.raises(InputError, match=what):
            found(path)
    make(tmp_path, notes__txt=b"text")
    with pytest.raises(InputError, match="holds no files of rows"):
        found(tmp_path)
    with pytest.raises(InputError, match=r"notes\.txt: is of no known format; set input\.format"):
        found(tmp_path / "notes.txt")


UTF16 = '{"a":1}\n'.encode("utf-16")


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("in.jsonl", b"PK\x03\x04rest", "is a zip archive; unpack it first"),
        ("in.csv", b"PK\x03\x04rest", "is a zip archive; unpack it first"),
        ("in.jsonl", b"PAR1rest", r"is a file of format parquet; set input\.format to it"),
        ("in.jsonl", UTF16, r'is UTF-16; set input\.encoding = "utf-16", or write the file anew'),
        ("in", UTF16, r'is UTF-16; set input\.encoding = "utf-16"'),
        ("in.jsonl.gz", gzip.compress(UTF16, mtime=0), "is UTF-16; set"),
        ("in.csv", "a,b\n".encode("utf-16"), r'is UTF-16; set input\.encoding = "utf-16"'),
        ("in.json", b'[\n{"a":1}]', "is one JSON array; write one object a line first"),
        ("in.parquet.gz", gzip.compress(b"PAR1", mtime=0), "is a gzip-compressed parquet file; decompress it first"),
        ("in.jsonl.gz", JSONL, "is named as gzip-compressed, but is not"),
    ],
)
def test_a_file_of_another_kind_is_told_by_its_first_bytes(
    tmp_path: Path, name: str, content: bytes, what: str
) -> None:
    (tmp_path / name).write_bytes(content)
    format_ = "jsonl" if name == "in.json" else "auto"
    with pytest.raises(InputError, match=what):
        found(tmp_path / name, format=format_)


def test_utf16_is_read_where_it_is_configured(tmp_path: Path) -> None:
    make(tmp_path, in__csv="a,b\n".encode("utf-16"))
    assert found(tmp_path / "in.csv", encoding="UTF_16") == [("in.csv", "csv")]


def test_of_very_many_files_those_with_telling_names_are_not_opened(tmp_path: Path) -> None:
    for number in range(FEW + 1):
        (tmp_path / f"{number:04}.jsonl").symlink_to("/proc/self/mem")  # the first byte cannot be read
    assert len(found(tmp_path)) == FEW + 1


@pytest.mark.parametrize(
    ("path", "other", "taken"),
    [
        ("*.jsonl", "out.jsonl", True),
        ("*.jsonl", "out.csv", False),
        ("*.jsonl", ".out.jsonl", False),  # none of the input's files is hidden
        ("*.jsonl", "sub/out.jsonl", False),
        ("*/*.jsonl", ".hidden/out.jsonl", False),  # nor are their directories
        ("**/*.jsonl", ".hidden/out.jsonl", False),
        (".hid*/*.jsonl", ".hidden/out.jsonl", True),
        ("*/*.jsonl", "sub/out.jsonl", True),
        ("**/*.jsonl", "sub/deep/out.jsonl", True),
        ("**/*.jsonl", "out.jsonl", True),
        ("sub/*.jsonl", "sub/../sub/out.jsonl", True),
        ("sub", "sub/out.jsonl", True),
        ("sub", "sub/out.txt", False),
        ("sub", "out.jsonl", False),
        ("link", "sub/out.jsonl", True),
        ("in.jsonl", "out.jsonl", False),
        ("s3://bucket/*.jsonl", "out.jsonl", False),
    ],
)
def test_an_output_that_would_be_a_file_of_the_input_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, other: str, *, taken: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("sub")
    make(tmp_path, in__jsonl=JSONL)
    assert takes_in(path, Path(other)) == taken
    assert takes_in(path, tmp_path / other) == taken
