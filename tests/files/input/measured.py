"""What reading a table takes of the memory, measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import asyncio, sys
from importlib import import_module
from pathlib import Path
from rowmill.files.input.tables import TableReader
form = import_module(f"rowmill.files.input.{sys.argv[1]}")
path = Path(sys.argv[2])
next(form.lines(path))
def peak():  # KiB; ru_maxrss would begin with the parent's
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
before = peak()
async def go():
    count = 0
    for shard in form.plan(path, 1000):
        async with TableReader(form.shard_lines(str(path), shard, None)) as reader:
            while lines := await reader.read():
                count += len(lines)
    return count
print(asyncio.run(go()), peak() - before)
"""
ROWS = 12_000


def great_values() -> list[bytes]:
    """Return a column's values, of over 45 MiB together, no two of them alike."""
    noise = bytes(range(256)) * 16
    return [noise[number % 256 :] + str(number).encode() for number in range(ROWS)]


def read_alone(form: str, path: Path) -> tuple[int, int]:
    """Read a file by the module of its format; return its rows, and the KiB by which the process grew at the most."""
    assert path.stat().st_size > 45 << 20
    words = [sys.executable, "-c", _PROGRAM, form, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    count, grown = map(int, done.stdout.split())
    return count, grown
