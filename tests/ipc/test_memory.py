"""The memory figures of the report are of the process itself."""

import subprocess
import sys
from pathlib import Path

import rowmill

MIB = 1 << 20
CHILD = """
from rowmill.ipc.memory import peak_rss
before = peak_rss()
block = bytearray(60 << 20)
block[::4096] = b"x" * len(block[::4096])
del block
print(before, peak_rss())
"""


def test_the_peak_stays_after_the_memory_is_given_back_and_leaves_out_who_started_the_process() -> None:
    ballast = bytearray(200 * MIB)
    ballast[::4096] = b"x" * len(ballast[::4096])  # what getrusage of a child would show as the child's own
    done = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, check=True, cwd=Path(rowmill.__file__).parents[1]
    )
    before, after = map(int, done.stdout.split())
    assert len(ballast) == 200 * MIB
    assert 5 * MIB < before < 60 * MIB
    assert 55 * MIB < after - before < 80 * MIB
