"""Tells of a process each second what cannot be seen from outside: a line of JSON in a file named by its number.

Python imports this at the start of a process whose PYTHONPATH has the folder. The command itself knows nothing of it.
It only counts: `gc.get_objects` would hand out tuples that another thread is still making, which breaks that one.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

_EACH_S = 1.0
_TASKS = ("_all_tasks", "_scheduled_tasks")  # of asyncio, to Python 3.11 and to 3.13; later ones are not told


def _watch(folder: str) -> None:
    with (Path(folder) / f"{os.getpid()}.jsonl").open("a", buffering=1) as file:
        while True:
            time.sleep(_EACH_S)
            found = {"at": time.monotonic(), "objects": sys.getallocatedblocks()}
            for name in _TASKS:
                if (tasks := getattr(sys.modules.get("asyncio.tasks"), name, None)) is not None:
                    found["tasks"] = len(tasks)
            file.write(json.dumps(found) + "\n")


if (_folder := os.environ.get("ROWMILL_SOAK_INSIDE")) is not None:
    threading.Thread(target=_watch, args=(_folder,), daemon=True).start()
