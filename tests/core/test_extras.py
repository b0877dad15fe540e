"""What a plain installation has no package for is refused in one line, before anything is asked or written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pytest
from pyarrow import feather, parquet

from rowmill.core.errors import ConfigError, ExitCode
from rowmill.interface import cli
from rowmill.interface.python import frames

_CONFIG = """
[input]
path = "in.jsonl"
[task]
model = "m"
prompt = "{text}"
[output]
path = "out.jsonl"
[[provider]]
base_url = "simulator"
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory with a configuration and the same row in several files."""
    monkeypatch.chdir(tmp_path)
    table = pa.table({"text": ["row 000000"]})
    parquet.write_table(table, "in.parquet")
    feather.write_feather(table, "in.arrow")
    line = json.dumps({"text": "row 000000"}).encode() + b"\n"
    Path("in.jsonl").write_bytes(line)
    Path("in.jsonl.zst").write_bytes(pa.compress(line, codec="zstd", asbytes=True))
    Path("config.toml").write_text(_CONFIG)
    return tmp_path


def hide(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have a package not be installed, with those parts of it that another test has loaded."""
    for each in [name, *(module for module in sys.modules if module.startswith(f"{name}."))]:
        monkeypatch.setitem(sys.modules, each, None)


NUMPY = "the vectors of embeddings need numpy, which is not installed: pip install 'rowmill[embeddings]'"
SERVING = "the simulator's connections need aiohttp, which is not installed: pip install 'rowmill[simulator]'"
NOT = "which is not installed: pip install"
SCRAPED = f"metrics.port: metrics that are scraped need prometheus_client, {NOT} 'rowmill[metrics]'"
PUSHED = f"metrics.otlp: metrics that are pushed need opentelemetry, {NOT} 'rowmill[otlp]'"
DOCUMENTS = f"task.documents: documents need pypdfium2, {NOT} 'rowmill[documents]'"
MISSING = {DOCUMENTS: "pypdfium2", SCRAPED: "prometheus_client", PUSHED: "opentelemetry.exporter"}
AIOHTTP = f'provider.base_url: "simulator": {SERVING}'


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["input.path=in.parquet"], "in.parquet: Parquet files"),
        (["input.path=in.arrow"], "in.arrow: Arrow files"),
        (["input.path=in.jsonl.zst"], "in.jsonl.zst: Zstandard's files"),
        (["output.path=out.parquet"], "output.path: out.parquet: Parquet files"),
        (["output.path=out/"], "output.path: out/: Parquet files"),
        (["output.format=parquet"], "output.path: out.jsonl: Parquet files"),
        (["provider.base_url=http://127.0.0.1:9", "metrics.port=0"], SCRAPED),
        (["provider.base_url=http://127.0.0.1:9", "metrics.otlp=http://127.0.0.1:9"], PUSHED),
        (["task.api=embeddings"], NUMPY),
        (["task.api=embeddings", "output.path=out.csv"], NUMPY),
        (["task.documents.text=file"], DOCUMENTS),
        ([], AIOHTTP),
    ],
)
def test_what_is_missing_is_named_with_its_extra(
    capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    if said not in {NUMPY, AIOHTTP, *MISSING}:
        said = f"{said} need pyarrow, which is not installed: pip install 'rowmill[parquet]'"
    before = sorted(place.iterdir())
    for name in ("aiohttp",) if said == AIOHTTP else ("pyarrow", "numpy", *filter(None, [MISSING.get(said)])):
        hide(monkeypatch, name)
    settings = [word for each in options for word in ("--set", each)]
    for command in (["run"], ["plan"], ["check", "--no-request"]):
        with pytest.raises(SystemExit) as ended:
            cli.main([*command, "config.toml", *settings])
        assert (ended.value.code, *capsys.readouterr()) == (ExitCode.USAGE, "", f"rowmill: {said}\n"), command
    assert sorted(place.iterdir()) == before


def test_the_simulator_is_refused_and_a_recipe_says_what_it_takes(
    capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, "aiohttp")
    with pytest.raises(SystemExit) as ended:
        cli.main(["simulate"])
    assert (ended.value.code, *capsys.readouterr()) == (ExitCode.USAGE, "", f"rowmill: {SERVING}\n")
    with pytest.raises(SystemExit):
        cli.main(["init", "--recipe", "labelling", str(place / "new")])
    assert "by the embedded simulator (pip install 'rowmill[simulator]'), until" in capsys.readouterr().err


def test_frames_whose_values_come_by_way_of_it_are_refused_and_others_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import duckdb
    import polars as pl

    frame = pl.DataFrame({"text": ["a"], "n": [1], "half": pl.Series([0.1], dtype=pl.Float32)})
    relation = duckdb.sql("SELECT 1 AS n")
    hide(monkeypatch, "pyarrow")
    plain_columns = frames.source(frame.drop("half"))
    assert plain_columns is not None
    assert list(plain_columns.rows(None)) == [{"text": "a", "n": 1}]
    inexact = frames.source(frame)
    assert inexact is not None
    with pytest.raises(ConfigError, match=r"polars' columns of Float32 need pyarrow, .*'rowmill\[parquet\]'$"):
        list(inexact.rows(None))
    assert list(inexact.rows({"text"})) == [{"text": "a", "n": None, "half": None}]
    with pytest.raises(ConfigError, match=r"relations of DuckDB need pyarrow, .*'rowmill\[parquet\]'$"):
        frames.source(relation)


def test_nothing_of_the_package_imports_them_before_they_are_needed() -> None:
    """But the modules that read and write their files."""
    code = """
import importlib, pkgutil, sys
import rowmill
for name in ("pyarrow", "numpy", "ray", "prometheus_client", "opentelemetry"):
    sys.modules[name] = None
for each in pkgutil.walk_packages(rowmill.__path__, "rowmill."):
    if each.name != "rowmill.__main__":
        try:
            importlib.import_module(each.name)
        except ModuleNotFoundError as error:
            print(each.name, error.name)
"""
    found = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, check=True, text=True)
    tables = ("core.arrow_values", *(f"files.input.{name}" for name in ("arrow", "parquet", "table_columns", "tables")))
    told = ["rowmill.metrics.otlp opentelemetry.exporter", "rowmill.metrics.prometheus prometheus_client"]
    assert found.stdout.splitlines() == [*(f"rowmill.{name} pyarrow" for name in tables), *told]
