"""What a node is asked and given before it is used. What needs Ray: `tests/end_to_end/test_cluster.py`."""

import importlib
import io
import json
import os
import platform
import stat
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from rowmill.cluster import probe
from rowmill.cluster.needs import Need
from rowmill.cluster.probe import NodePython
from rowmill.core.version import __version__
from tests.end_to_end.conftest import ROOT

NAME = "rowmill-1-abc"
_RUN = """
import json, sys
scope = {"__name__": "__main__"}
exec(compile(sys.argv[1], "<probe>", "exec"), scope)
answer = scope["probe"]("1", sys.argv[2], sys.stdin.buffer.read(), *map(json.loads, sys.argv[3:]))
import rowmill
print(json.dumps([*answer, rowmill.where]))
"""


def package(where: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("rowmill/__init__.py", f"where = {where!r}")
    return file.getvalue()


def probed(temporary: Path, where: str = "given", *, needed: Sequence[str] = (), imported: Sequence[str] = ()) -> Any:
    """Ask a Python that has nothing but the standard library, and what lies in the directory."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _RUN, probe.SENT, NAME, json.dumps(needed), json.dumps(imported)],
        cwd=temporary,
        input=package(where),
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_it_is_given_the_package_once(tmp_path: Path) -> None:
    place = tmp_path / f"{NAME}-{os.getuid()}"
    for _ in range(2):
        _, version, path, lacking, _, where = probed(tmp_path, needed=["msgspec"])
        assert (version, path, where, lacking) == ("1", str(place), "given", ["msgspec"])
    assert list(tmp_path.iterdir()) == [place]
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert probed(tmp_path, "another, of the same name")[-1] == "given"


def test_what_the_run_imports_is_imported_there(tmp_path: Path) -> None:
    """A package may be there and not work; a module may import another one that is not there."""
    modules = {
        "whole": "import json",
        "halves": "import no_such_package",
        "broken": "import ctypes; ctypes.CDLL('libnowhere.so')",
        "leaves": "raise SystemExit(0)",
    }
    for name, text in modules.items():
        (tmp_path / f"{name}.py").write_text(text)
    _, _, _, _, failed, _ = probed(tmp_path, imported=["json", "pyarrow", *modules])
    assert list(failed) == ["pyarrow", "halves", "broken", "leaves"]
    assert failed["pyarrow"] == "ModuleNotFoundError: No module named 'pyarrow'"
    assert failed["halves"] == "ModuleNotFoundError: No module named 'no_such_package'"
    assert failed["broken"].startswith("OSError: libnowhere.so: ")


@pytest.mark.parametrize("how", ["writable", "link", "file", "dangling"])
def test_what_others_may_have_put_there_is_not_run(tmp_path: Path, how: str) -> None:
    place = tmp_path / f"{NAME}-{os.getuid()}"
    theirs = tmp_path / "theirs"
    (theirs / "rowmill").mkdir(parents=True)
    (theirs / "rowmill" / "__init__.py").write_text("where = 'theirs'")
    if how == "writable":
        theirs.rename(place)
        place.chmod(0o777)
    elif how == "link":
        place.symlink_to(theirs)
    elif how == "dangling":
        place.symlink_to(tmp_path / "nowhere")
    else:
        place.write_text("theirs")
    _, _, path, _, _, where = probed(tmp_path)
    assert where == "given"
    assert path != str(place)
    assert Path(path).parent == tmp_path


def test_what_a_node_is_asked_for_is_what_the_package_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it: a worker that lacks the last of its packages dies without a word about it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [line.split(">")[0].split("<")[0].strip() for line in project["dependencies"]]
    assert probe.needed() == names
    ask = probe.by_value("probe")
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert NodePython(*ask("1.0", "rowmill-1.0", None, names, [])).lacking == []
    assert NodePython(*ask("1.0", "rowmill-1.0", None, [*names, "no-such-package"], [])).lacking == ["no-such-package"]
    monkeypatch.setattr(metadata, "requires", lambda name: importlib.metadata.version(f"no-{name}"))
    assert probe.needed() == []


def test_a_node_without_the_package_is_given_it_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "rowmill" else name)
    found = NodePython(*probe.by_value("probe")("1.2", "rowmill-1.2-5", probe.packed(), [], []))
    assert found.version == "1.2"
    assert Path(found.path) == tmp_path / f"rowmill-1.2-5-{os.getuid()}"
    assert Path(found.path, "rowmill", "cluster", "agent.py").exists()
    assert Path(found.path, "rowmill", "py.typed").exists()


OURS = NodePython(platform.python_version(), __version__, "", [], {})
NEEDS = [Need("pyarrow", "for an output of Parquet", "install it there"), Need("shop", "for task.schema: shop:A", "x")]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (OURS, None),
        (
            OURS._replace(python="3.8.2"),
            f"has Python 3.8.2 and the driver {OURS.python}: have the same on both, or set cluster.runtime_env",
        ),
        (
            OURS._replace(version=None, lacking=["uvloop"]),
            f"has Rowmill None and the driver {__version__}: have the same on both, or none there",
        ),
        (
            OURS._replace(lacking=["uvloop", "jinja2"]),
            'lacks uvloop, jinja2: install Rowmill there, or set cluster.runtime_env = {pip = ["rowmill"]}',
        ),
        (
            OURS._replace(failed={"pyarrow": "ImportError: libarrow.so:\nno such file"}),
            "cannot import pyarrow for an output of Parquet (ImportError: libarrow.so: no such file): install it there",
        ),
    ],
)
def test_a_node_on_which_no_worker_can_be_is_refused_in_a_line(found: NodePython, told: str | None) -> None:
    assert probe.refused(found, NEEDS) == told
