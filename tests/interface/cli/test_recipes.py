"""Every recipe is whole, and runs as it comes: `rowmill init --recipe X && rowmill run`."""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet  # type: ignore[import-untyped]  # it ships no types
import pytest

import rowmill
from rowmill.core import config as configuration
from rowmill.core.config import SIMULATOR
from rowmill.core.errors import ConfigError, InputError
from rowmill.interface import cli
from rowmill.interface.cli import arguments, preset_recipe, recipes

ROOT = Path(rowmill.__file__).parents[1]
TASKS = [
    "back-translation",
    "deduplication",
    "documents",
    "embedding",
    "extraction",
    "generation",
    "judge",
    "labelling",
    "moderation",
    "qa",
    "translation",
]
# The pages of docs/ run these as they come; tests/end_to_end/ looks at what they make of rows.
ON_THEIR_PAGES = {"back-translation", "deduplication", "documents", "judge", "qa"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_is_one_for_each_task_of_bulk_work() -> None:
    assert recipes.names() == TASKS == list(arguments.RECIPES)
    assert all(recipes.about(name).startswith({"qa": "QA"}.get(name, name.capitalize())) for name in TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_a_recipe_is_a_configuration_with_its_files(folder: Path, name: str) -> None:
    written = recipes.write(name, Path())
    config = configuration.load(Path("config.toml"))
    assert Path(config.input.path) in written
    for task in (config.task, *config.step):
        assert task.schema is None or Path(str(task.schema)) in written
    assert [provider.base_url for provider in config.provider] == [SIMULATOR], "a first run asks nobody outside"
    for change in commented_out(Path("config.toml").read_text(encoding="utf-8")):
        configuration.load(Path("config.toml"), [change])


def commented_out(text: str) -> Iterator[str]:
    """Give each key that the configuration shows and does not set, as an override."""
    section = ""
    for line in text.splitlines():
        if heading := re.match(r"\[+(\w+)\]+", line):
            section = heading[1]
        elif section == "step" and (name := re.match(r'name = "(.+?)"', line)):
            section = f"step.{name[1]}"
        elif entry := re.match(r"# ([a-z_]+) = (.+)$", line):
            yield f"{section}.{entry[1]}={entry[2]}"


@pytest.mark.parametrize("name", TASKS)
def test_a_recipe_asks_a_preset_where_one_is_named(folder: Path, name: str) -> None:
    for preset in ("groq", "ollama"):
        written, (advice, *_) = preset_recipe.write(name, Path(preset), preset)
        config = configuration.load(Path(preset, "config.toml"))
        own = [step.name for step in config.step if step.model is not None]
        assert ("that of the steps" in advice) == bool(own)
        assert all(step in advice for step in own)
        assert [(provider.name, provider.preset) for provider in config.provider] == [(preset, preset)]
        assert f'"{SIMULATOR}"' not in Path(preset, "config.toml").read_text(encoding="utf-8")
        for change in commented_out(Path(preset, "config.toml").read_text(encoding="utf-8")):
            configuration.load(Path(preset, "config.toml"), [change])
        assert (Path(preset, ".gitignore") in written) == (preset == "groq"), "only a key is nothing to be committed"
    assert Path("groq", ".gitignore").read_text() == ".env\n"


def test_what_a_preset_still_needs_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(".gitignore").write_text("*.log\n")
    with pytest.raises(SystemExit) as ended:
        cli.main(["init", "--recipe", "labelling", "--preset", "azure"])
    assert ended.value.code == 0
    assert capsys.readouterr().err.splitlines() == [
        "wrote config.toml, schema.json, tickets.csv",
        "  model    name one that Azure OpenAI has, as task.model of config.toml",
        "  key      set AZURE_OPENAI_API_KEY, or write it into .env, which is nothing to be committed",
        "  next     rowmill check",
    ]
    assert Path(".gitignore").read_text() == "*.log\n"
    # A made-up name may be somebody's: no key goes there.
    with pytest.raises(ConfigError, match=r"provider\.host: is missing: at Azure OpenAI everybody has his own"):
        configuration.load(Path("config.toml"))
    assert configuration.load(Path("config.toml"), ["provider.host=mine"]).provider[0].preset == "azure"


def test_a_preset_that_is_not_there_is_refused_before_anything_is_written(folder: Path) -> None:
    with pytest.raises(ConfigError, match="--preset: 'grok' is none; did you mean \"xai\""):
        preset_recipe.write("labelling", Path("new"), "grok")
    assert list(folder.iterdir()) == []


def test_no_file_is_written_over(folder: Path) -> None:
    Path("schema.json").write_text("mine")
    with pytest.raises(InputError, match=r"schema\.json exists, and nothing was written"):
        recipes.write("labelling", Path())
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("schema.json", "mine")]


def test_a_recipe_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="no recipe is named 'cooking'; there are back-translation, deduplication"):
        recipes.write("cooking", Path())


def test_recipes_with_a_page_are_run_there() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT.parent / "docs").glob("*.md"))
    for name in ON_THEIR_PAGES:
        assert f"rowmill init --recipe {name} work\ncd work\nrowmill run\n" in pages


def test_every_other_recipe_runs_as_it_comes(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "rowmill", "run", "--set", "simulator.latency_ms=1"]
    started = {}
    for name in sorted({*TASKS} - ON_THEIR_PAGES):
        recipes.write(name, tmp_path / name)
        started[name] = subprocess.Popen(
            command, cwd=tmp_path / name, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
    ended = {name: (process.communicate(timeout=60)[1], process.returncode) for name, process in started.items()}
    assert {name: told for name, told in ended.items() if told[1] != 0} == {}
    for name in started:
        rows = list(output_of(tmp_path / name))
        assert len(rows) == 24, name
        assert [row["index"] for row in rows] == list(range(24)), name
        assert not any(row["error"] for row in rows), name
        assert check(name, rows), name


def output_of(folder: Path) -> Iterator[dict[str, Any]]:
    path = Path(configuration.load(folder / "config.toml").output.path)
    if path.suffix == ".csv":
        with (folder / path).open(newline="", encoding="utf-8") as file:
            yield from ({**row, "index": int(row["index"])} for row in csv.DictReader(file))
    elif path.suffix == ".parquet":
        yield from pyarrow.parquet.read_table(folder / path).to_pylist()
    else:
        yield from map(json.loads, (folder / path).read_bytes().splitlines())


def check(name: str, rows: list[dict[str, Any]]) -> bool:
    """Tell whether the rows hold what the recipe promises."""
    first = rows[0]
    match name:
        case "embedding":
            return len(first["output"]) == 256 and first["title"] == "Coffee"
        case "extraction":
            return set(first["output"]) == {"customer", "order_number", "deliver_by", "express", "items"}
        case "generation":
            return "photosynthesis" in first["input"]["topic"] and isinstance(first["output"], str)
        case "labelling":
            return {row["label"] for row in rows} <= {"billing", "delivery", "returns", "account", "other"}
        case "moderation":
            return isinstance(first["output"]["flagged"], bool)
        case _:
            return first["language"] == "German" and bool(first["output"])
