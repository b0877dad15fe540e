"""The package takes one name, its own: a project with an `engine` of its own runs rowmill and keeps its `engine`."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Place, Server, Started
from tests.lives import combined

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


@pytest.mark.parametrize(("layout", "where"), combined(list(LAYOUTS), ["working directory", "PYTHONPATH"]))
def test_a_projects_own_engine_neither_hides_rowmill_nor_is_hidden(
    place: Place, server: Callable[..., Server], layout: str, where: str
) -> None:
    path, module = LAYOUTS[layout]
    elsewhere = where == "PYTHONPATH"
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

    commands = [[str(Path(sys.executable).with_name("rowmill"))], [sys.executable, "-m", "rowmill"]]
    if not elsewhere:
        commands.reverse()  # which looks here first: this is where it has to do all the work
    first, program = (
        Started(command, place.folder, environ) for command in ([*commands[0], "run"], [sys.executable, "program.py"])
    )
    assert program.wait() == (0, "None True the project\n", "")
    done = first.wait()
    assert (done.code, done.out) == (0, ""), done.err
    assert [line["error"] for line in place.lines] == [None] * 3
    again = Started([*commands[1], "run"], place.folder, environ).wait()
    assert (again.code, "this run has finished" in again.err) == (0, True), again.err
    assert notes.read_text().split() == ["program.py"], "nobody else has imported it"
    assert {file: file.read_text() for file in theirs} == theirs
