"""Which format an output has."""

import pytest

from engine.config.sections import OutputConfig
from engine.errors import ConfigError
from engine.outputs import format_of, open_format
from engine.records import Column, Layout


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("out.jsonl", "jsonl"),
        ("out", "jsonl"),
        ("out.json", "jsonl"),
        ("csv", "jsonl"),
        ("out.csv", "csv"),
        ("OUT.CSV", "csv"),
        ("out.parquet", "parquet"),
        ("answers/", "parquet"),
        ("s3://bucket/a/answers.parquet", "parquet"),
        ("s3://bucket/answers/", "parquet"),
    ],
)
def test_the_name_says_the_format(path: str, found: str) -> None:
    assert format_of(OutputConfig(path=path)) == found


def test_what_is_configured_goes_before_the_name() -> None:
    assert format_of(OutputConfig(path="out.csv", format="jsonl")) == "jsonl"
    assert format_of(OutputConfig(path="out.jsonl", format="batch")) == "batch"


@pytest.mark.parametrize("other", ["jsonl", "csv", "batch"])
def test_only_parquet_is_written_into_a_directory(other: str) -> None:
    with pytest.raises(ConfigError, match=rf"output\.path: only Parquet is written into a directory, not {other}"):
        format_of(OutputConfig(path="answers/", format=other))  # type: ignore[arg-type]  # one of the literals


def test_a_directory_of_parts_is_told_by_the_slash() -> None:
    assert open_format(OutputConfig(path="answers/"), Layout()).parts == ".parquet"
    assert open_format(OutputConfig(path="answers.parquet"), Layout()).parts is None
    assert open_format(OutputConfig(path="answers.csv"), Layout()).parts is None


def test_keys_differ_where_sections_would() -> None:
    columns = Layout(input_columns=(Column("a"),))
    kept = {"include": ["input"]}
    formats = [
        open_format(OutputConfig(path=path, **keys), layout)  # type: ignore[arg-type]  # as a configuration has them
        for path, keys, layout in [
            ("o.jsonl", {}, Layout()),
            ("o.jsonl", {}, Layout(vectors=True)),
            ("o.jsonl", {"format": "batch"}, Layout()),
            ("o.csv", {}, Layout()),
            ("o.csv", {}, Layout(vectors=True)),
            ("o.csv", {"include": ["meta"]}, Layout()),
            ("o.csv", kept, columns),
            ("o.csv", kept, Layout(input_columns=(Column("a", "int64"),))),
            ("o.csv", {}, Layout(fields=(Column("a"),))),
            ("o.parquet", {}, Layout()),
            ("o.parquet", kept, columns),
            ("o.parquet", {}, Layout(vectors=True)),
        ]
    ]
    keys = [each.key for each in formats]
    assert len(set(keys)) == len(keys)
    assert open_format(OutputConfig(path="other.csv"), columns).key == keys[3]  # without include nothing is kept


def test_json_lines_are_left_as_they_are(joined: object, result: object) -> None:
    assert open_format(OutputConfig(path="o.jsonl", include=["input"]), Layout()).join() is None
