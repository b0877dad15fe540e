"""The same rows in files of every input format, and the rows of every output format read back.

Files are written by what other people's tools are made of, and read by the same: nothing of the engine's is in between.
"""

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import openpyxl  # type: ignore[import-untyped]  # it ships no types
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # the same

Row = Mapping[str, str]
FILES = 4  # of a directory
URL = "/v1/chat/completions"


class Answered(NamedTuple):
    """One row of an output."""

    place: int  # its "index"
    id: str
    output: str | None
    input: Mapping[str, Any] | None  # its columns, where they were kept


def request(row: Row, prompt: str, model: str) -> dict[str, Any]:
    """Return the line that a batch file has for a row."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt.format(**row)}]}
    return {"custom_id": row["id"], "method": "POST", "url": URL, "body": body}


# Inputs: each writes the rows into a folder of its own and returns what input.path is to be.


def _lines(rows: Sequence[Row], path: Path) -> Path:
    path.write_bytes(_jsonl(rows))
    return path


def _gzip(rows: Sequence[Row], path: Path) -> Path:
    with gzip.open(path, "wb", compresslevel=6) as file:
        file.write(_jsonl(rows))
    return path


def _zstd(rows: Sequence[Row], path: Path) -> Path:
    with pa.CompressedOutputStream(str(path), "zstd") as file:
        file.write(_jsonl(rows))
    return path


def _document(rows: Sequence[Row], path: Path) -> Path:
    """Write one array over many lines, as `json.dump` does it."""
    with path.open("w", encoding="utf-8") as file:
        json.dump(rows, file, ensure_ascii=False, indent=2)
    return path


def _workbook(rows: Sequence[Row], path: Path) -> Path:
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("Rows")
    sheet.append(list(rows[0]))
    for row in rows:
        sheet.append(list(row.values()))
    book.save(path)
    return path


def _delimited(rows: Sequence[Row], path: Path) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return path


def _parquet(rows: Sequence[Row], path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=len(rows))
    return path


def _arrow(rows: Sequence[Row], path: Path) -> Path:
    """Write what `save_to_disk` of the `datasets` package writes, as far as readers look at it."""
    path.mkdir()
    names = []
    for number, part in enumerate(_parts(rows)):
        table = pa.Table.from_pylist(part)
        names.append(f"data-{number:05}-of-{FILES:05}.arrow")
        with pa.OSFile(str(path / names[-1]), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=1000)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0" * 16, "_split": None}
    (path / "state.json").write_text(json.dumps(state))
    (path / "dataset_info.json").write_text("{}")
    return path


def _directory(write: Callable[[Sequence[Row], Path], Path], suffix: str) -> Callable[[Sequence[Row], Path], Path]:
    def write_all(rows: Sequence[Row], path: Path) -> Path:
        path.mkdir()
        for number, part in enumerate(_parts(rows)):
            write(part, path / f"part-{number}{suffix}")
        return path

    return write_all


def _parts(rows: Sequence[Row]) -> list[Sequence[Row]]:
    size = -(-len(rows) // FILES)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _jsonl(rows: Sequence[Any]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


# Name -> file or directory, and what writes it. A batch file has the requests for rows.
INPUTS: Mapping[str, tuple[str, Callable[[Sequence[Any], Path], Path]]] = {
    "jsonl": ("rows.jsonl", _lines),
    "jsonl.gz": ("rows.jsonl.gz", _gzip),
    "jsonl.zst": ("rows.jsonl.zst", _zstd),
    "json": ("rows.json", _document),
    "xlsx": ("rows.xlsx", _workbook),
    "csv": ("rows.csv", _delimited),
    "tsv": ("rows.tsv", _delimited),
    "parquet": ("rows.parquet", _parquet),
    "parquet/": ("parquet", _directory(_parquet, ".parquet")),
    "arrow/": ("arrow", _arrow),
    "jsonl/": ("jsonl", _directory(_lines, ".jsonl")),
    "batch": ("batch.jsonl", _lines),
}


# Outputs: each yields the rows of one in their order.


def _of_lines(path: Path) -> Iterator[Answered]:
    with path.open("rb") as file:
        for line in file:
            row = json.loads(line)
            yield Answered(row["index"], row["id"], row["output"], row.get("input"))


def _of_records(path: Path) -> Iterator[Answered]:
    csv.field_size_limit(1 << 24)
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield Answered(int(row["index"]), row["id"], row["output"] or None, None)


def _of_parquet(path: Path) -> Iterator[Answered]:
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        for batch in pq.ParquetFile(file).iter_batches():
            columns = batch.schema.names
            kept = columns[: columns.index("index")]  # the columns of the input come first
            for row in batch.to_pylist():
                # One that is called like a column of the output has another name.
                given = {name.removeprefix("input."): row[name] for name in kept} if kept else None
                yield Answered(row["index"], row["id"], row["output"], given)


def _of_batch(path: Path) -> Iterator[Answered]:
    with path.open("rb") as file:
        for line in file:
            row = json.loads(line)
            choice = row["response"]["body"]["choices"][0]
            yield Answered(int(row["id"].rpartition("_")[2]), row["custom_id"], choice["message"]["content"], None)


class Output(NamedTuple):
    """One output format."""

    keys: Mapping[str, Any]  # of [output]
    read: Callable[[Path], Iterator[Answered]]


OUTPUTS: Mapping[str, Output] = {
    "jsonl": Output({"path": "out.jsonl", "format": "jsonl"}, _of_lines),  # of a batch file it would be "batch"
    "csv": Output({"path": "out.csv"}, _of_records),
    "parquet": Output({"path": "out.parquet"}, _of_parquet),
    "parquet/": Output({"path": "out/", "include": ["input"]}, _of_parquet),
    "batch": Output({"path": "out.batch.jsonl", "format": "batch"}, _of_batch),
}
