"""The package takes one name, its own: a project with an `engine` of its own runs rowmill and keeps its `engine`."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Place, Server

# What a project of that name may look like: a file, and where it stands what the project's own programs import.
LAYOUTS = {
    "package": ("engine/__init__.py", "engine"),
    "folder": ("engine/parts.py", "engine.parts"),
    "file": ("engine.py", "engine"),
}
# Notes who imports it: rowmill has no business here.
THEIRS = """
import os, pathlib, sys
with open(os.environ["NOTES"], "a") as notes:
    print(pathlib.Path(sys.argv[0]).name, file=notes)
OWNER = "the project"
"""
PROGRAM = """
import os, rowmill
rows = rowmill.map(["row 000007"], model="m", base_url=os.environ["URL"], workers={{"count": 1}})
from {module} import OWNER
print(rows[0].error, bool(rows[0].output), OWNER)
"""
NOT_OURS = "[[this is no configuration of rowmill's"


@pytest.mark.parametrize("elsewhere", [False, True], ids=["working directory", "PYTHONPATH"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_projects_own_engine_neither_hides_rowmill_nor_is_hidden(
    place: Place, server: Callable[..., Server], layout: str, elsewhere: bool
) -> None:
    path, module = LAYOUTS[layout]
    project = place.folder / "lib" if elsewhere else place.folder
    theirs = {project / path: THEIRS, project / "rowmill.toml": NOT_OURS, place.folder / "rowmill.toml": NOT_OURS}
    for file, text in theirs.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    url = server().url
    place.configure(url)
    place.write_rows(3)
    (place.folder / "program.py").write_text(PROGRAM.format(module=module))
    notes = place.folder / "notes"
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environ |= {"NOTES": str(notes), "URL": url} | ({"PYTHONPATH": str(project)} if elsewhere else {})

    run = ["run", "--set=workers.count=1"]
    commands = {
        "out.jsonl": [str(Path(sys.executable).with_name("rowmill")), *run],
        "module.jsonl": [sys.executable, "-m", "rowmill", *run, "--set=output.path=module.jsonl"],
        "": [sys.executable, "program.py"],
    }
    started = [
        subprocess.Popen(command, cwd=place.folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for command in commands.values()
    ]
    told = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], told
    assert told[-1] == (b"None True the project\n", b"")
    first, second = [(place.folder / name).read_bytes() for name in commands if name]
    assert first == second
    assert first.count(b'"error":null') == 3
    assert notes.read_text().split() == ["program.py"], "nobody else has imported it"
    assert {file: file.read_text() for file in theirs} == theirs
