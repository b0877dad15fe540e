"""The longest tests, such as whole lives of workers, with all their examples and variants: the suite runs a part."""

import os
import subprocess
import sys
from pathlib import Path

from scripts.proving.runs import check

ROOT = Path(__file__).parents[2]
TESTS = (
    "tests/flow/leases/test_lives.py",
    "tests/budget/test_lives.py",
    "tests/worker/live/test_outcomes.py",
    "tests/end_to_end/test_field_limits.py",
    "tests/end_to_end/test_field_machine.py",
    "tests/end_to_end/test_field_refusals.py",
    "tests/end_to_end/test_field_tls.py",
    "tests/end_to_end/test_finish.py",
    "tests/end_to_end/test_import_name.py",
)


def lives(_folder: Path) -> bool:
    """Run the tests, whose promises are held at every message of every life."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *TESTS],
        cwd=ROOT,
        env={**os.environ, "ROWMILL_LIVES": "all"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stdout)
    return check("tests", done.returncode == 0, done.stdout.rstrip().rpartition("\n")[2])
