"""What a type checker says of programs that call Rowmill: it passes good ones, and finds every slip."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SCRIPTS = ROOT / "tests" / "typing"


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
    marked = {
        (script, number)
        for script in scripts
        for number, line in enumerate((ROOT / script).read_text().splitlines(), 1)
        if "# slip" in line
    }
    assert len(marked) == 25
    assert found == marked
