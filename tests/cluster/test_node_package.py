"""What a node without Rowmill is given, and where it puts it. What needs Ray: `tests/end_to_end/test_cluster.py`."""

import io
import json
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from rowmill.cluster import engine

NAME = "rowmill-1-abc"
_RUN = """
import json, sys
scope = {"__name__": "__main__"}
exec(compile(sys.argv[1], "<probe>", "exec"), scope)
answer = scope["probe"]("1", sys.argv[2], sys.stdin.buffer.read(), ["msgspec"])
import rowmill
print(json.dumps([*answer, rowmill.where]))
"""


def package(where: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("rowmill/__init__.py", f"where = {where!r}")
    return file.getvalue()


def probed(temporary: Path, where: str = "given") -> list[Any]:
    """Ask a Python that has nothing but the standard library."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _RUN, engine._SENT, NAME],
        input=package(where),
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        check=True,
    )
    found: list[Any] = json.loads(done.stdout)
    return found


def test_it_is_given_the_package_once(tmp_path: Path) -> None:
    place = tmp_path / f"{NAME}-{os.getuid()}"
    for _ in range(2):
        _, version, path, lacking, where = probed(tmp_path)
        assert (version, path, where) == ("1", str(place), "given")
        assert "msgspec" in lacking
    assert list(tmp_path.iterdir()) == [place]
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert probed(tmp_path, "another, of the same name")[-1] == "given"


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
    _, _, path, _, where = probed(tmp_path)
    assert where == "given"
    assert path != str(place)
    assert Path(path).parent == tmp_path
