"""The scripts: what the corpora look like, that the shell parses, that the pinned versions fit the project."""

import json
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
SHELL = [path for path in (*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run") if path.is_file() and not path.suffix]


def corpus(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "corpus.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environ or None)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_docstrings_are_thousands_of_whole_rows_and_the_same_every_time(tmp_path: Path) -> None:
    first, second = tmp_path / "deep" / "first.jsonl", tmp_path / "second.jsonl"
    assert corpus("docstrings", first).returncode == 0
    assert corpus("docstrings", second).returncode == 0
    assert first.read_bytes() == second.read_bytes()
    made = rows(first)
    assert len(made) >= 5_000
    assert len({row["id"] for row in made}) == len(made)
    assert {row["kind"] for row in made} == {"module", "class", "function", "method"}
    assert all(list(row) == ["id", "name", "kind", "docstring"] and row["docstring"] for row in made)
    by_id = {row["id"]: row for row in made}
    assert by_id["json"]["kind"] == "module"
    assert by_id["json.dumps"]["docstring"].startswith("Serialize ``obj`` to a JSON formatted ``str``.")
    assert by_id["json.decoder.JSONDecoder.decode"] | {"docstring": ""} == {
        "id": "json.decoder.JSONDecoder.decode",
        "name": "decode",
        "kind": "method",
        "docstring": "",
    }
    assert sorted(tmp_path.rglob("*.part")) == []


def test_packages_are_one_row_for_each_stanza_in_order(tmp_path: Path) -> None:
    apt = tmp_path / "apt-cache"
    stanzas = (
        "Package: b\nSection: libs\nDescription: first line\n second line\n .\n  indented\nPriority: optional\n\n"
        "Package: a\nDescription-md5: 0\n\n\n"
        "Package: b\nDescription: another version\n"
    )
    apt.write_text(f"#!/bin/sh\ncat <<'END'\n{stanzas}END\n")
    apt.chmod(0o755)
    out = tmp_path / "out.jsonl"
    assert corpus("packages", out, PATH=f"{tmp_path}:/usr/bin:/bin").returncode == 0
    assert rows(out) == [
        {"id": "b", "package": "b", "section": "libs", "description": "first line\nsecond line\n\n indented"},
        {"id": "a", "package": "a", "section": "", "description": ""},
        {"id": "b#2", "package": "b", "section": "", "description": "another version"},
    ]


@pytest.mark.parametrize(
    ("apt", "says"),
    [(None, "apt-cache is not installed"), ("exit 0", "apt-get update"), ("echo Package: a; exit 3", "exit code 3")],
)
def test_packages_that_cannot_be_had_are_one_line_and_leave_no_file(tmp_path: Path, apt: str | None, says: str) -> None:
    if apt is not None:
        (tmp_path / "apt-cache").write_text(f"#!/bin/sh\n{apt}\n")
        (tmp_path / "apt-cache").chmod(0o755)
    done = corpus("packages", tmp_path / "out.jsonl", PATH=str(tmp_path))
    assert done.returncode == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.glob("out*")) == []


def test_synthetic_rows_have_the_size_asked_for_and_differ(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert corpus("synthetic", out, "--rows", 1_000, "--bytes-per-row", 300).returncode == 0
    lines = out.read_bytes().splitlines(keepends=True)
    assert [len(line) for line in lines] == [300] * 1_000
    made = rows(out)
    assert [row["id"] for row in made] == [f"row-{index:08}" for index in range(1_000)]
    assert len({row["text"] for row in made}) == 1_000


@pytest.mark.parametrize("script", SHELL, ids=lambda path: path.name)
def test_a_shell_script_parses_and_can_be_started(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_named_scripts_are_there() -> None:
    assert {path.name for path in SHELL} == {
        "setup",
        "demo",
        "test",
        "check",
        "docs",
        "record",
        "bench",
        "prove",
        "run",
    }


def test_each_dependency_is_pinned_to_a_version_that_it_allows() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*", line)] == []
    pinned = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]:
        requirement = Requirement(text)
        if requirement.name == project["name"]:  # an extra that takes in another one
            continue
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier
