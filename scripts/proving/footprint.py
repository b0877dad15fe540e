"""What the processes of a long run hold, over time: descriptors, memory, threads, and from inside objects and tasks."""

import contextlib
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import psutil

INSIDE = Path(__file__).with_name("inside")
Series = list[tuple[float, float]]  # (seconds of time.monotonic(), value)
_WARM_UP = 0.2  # of the time: until pools and caches have what they work with
_WINDOWS = 20


def environment(folder: Path) -> dict[str, str]:
    """Return what lets a Python process tell of itself in this folder."""
    return {"PYTHONPATH": str(INSIDE), "ROWMILL_SOAK_INSIDE": str(folder)}


class Footprint:
    """Looks at processes, by their names."""

    def __init__(self, processes: Mapping[str, psutil.Process], folder: Path) -> None:
        """`folder`: that of their `environment`."""
        self._processes = processes
        self._folder = folder
        self._series: dict[str, dict[str, Series]] = {name: defaultdict(list) for name in processes}

    def look(self) -> None:
        """Look at each once."""
        for name, process in self._processes.items():
            with contextlib.suppress(psutil.Error):  # it has ended
                found = {
                    "descriptors": process.num_fds(),
                    "MB": process.memory_info().rss / 1e6,
                    "threads": process.num_threads(),
                }
                now = time.monotonic()
                for kind, value in found.items():
                    self._series[name][kind].append((now, value))

    def series(self) -> dict[str, dict[str, Series]]:
        """Return for each process what was found, by kind, from the first look to the last one."""
        for name, process in self._processes.items():
            kinds = self._series[name]
            looks = kinds["descriptors"]
            for line in (self._folder / f"{process.pid}.jsonl").read_text().splitlines():
                values = json.loads(line)
                if looks[0][0] <= (at := values.pop("at")) <= looks[-1][0]:
                    for kind, value in values.items():
                        kinds[kind].append((at, value))
        return self._series


def grown(series: Series) -> float:
    """Return by how much something has grown since the warm-up, by a line through the least of each part of the time.

    What a moment takes is no growth, and what is never given back is in the least, too.
    """
    start = series[0][0] + _WARM_UP * (series[-1][0] - series[0][0])
    behind = [each for each in series if each[0] >= start]
    size = -(-len(behind) // _WINDOWS)
    least = [min(behind[at : at + size], key=lambda each: each[1]) for at in range(0, len(behind), size)]
    if len(least) == 1:
        return 0.0
    line = statistics.linear_regression([at for at, _ in least], [value for _, value in least])
    slope: float = line.slope
    return slope * (least[-1][0] - least[0][0])
