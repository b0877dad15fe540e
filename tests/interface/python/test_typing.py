"""What a type checker says of programs that call Rowmill: it passes good ones, and finds every slip."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPTS = ROOT / "tests" / "typing"
SLIPS = {
    (str(path.relative_to(ROOT)), number)
    for path in SCRIPTS.glob("*.py")
    for number, line in enumerate(path.read_text().splitlines(), 1)
    if "# slip" in line
}


def test_mypy_passes_a_good_script_and_finds_every_slip_in_a_bad_one() -> None:
    """With the cache of the checks: the types of pandas are read once."""
    scripts = sorted(str(path.relative_to(ROOT)) for path in SCRIPTS.glob("*.py"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", *scripts],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    found = {(match[1], int(match[2])) for match in re.finditer(r"^(.+?):(\d+): error: ", done.stdout, re.MULTILINE)}
    assert len(SLIPS) == 25
    assert found == SLIPS


@pytest.mark.skipif(shutil.which("pyright") is None, reason="no pyright is installed")
def test_pyright_says_the_same(tmp_path: Path) -> None:
    shutil.copytree(SCRIPTS, tmp_path / "typing", ignore=shutil.ignore_patterns("__pycache__"))
    asked = {"include": ["typing"], "extraPaths": [str(ROOT / "engine")], "typeCheckingMode": "standard"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(asked))
    done = subprocess.run(
        ["pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    told = [each for each in json.loads(done.stdout)["generalDiagnostics"] if each["severity"] == "error"]
    assert {(f"tests/typing/{Path(each['file']).name}", each["range"]["start"]["line"] + 1) for each in told} == SLIPS
