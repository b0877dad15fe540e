"""Holds the promises at full size: real rows with faults and kills, a million others, limits, formats, money, batches.

Each item prints its figures and PASS or FAIL, and all that it prints is kept in a file of its own. All of them take
about an hour and three quarters, and 14 GB of disk.
"""

import argparse
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.corpus import CorpusError
from scripts.proving import (
    adaptive,
    batch_file,
    batch_memory,
    batches,
    caps,
    cluster,
    config_fuzz,
    corruption,
    deadlines,
    duplicates,
    embeddings,
    estimates,
    extraction,
    faults,
    formats,
    judging,
    lives,
    openai_versions,
    outage,
    pacing,
    packing,
    providers,
    random_kills,
    recipes,
    servers,
    sizes,
    soak,
    steps,
)
from scripts.proving.runs import ItemError

ROOT = Path(__file__).parents[2]
_LAST_WORDS_S = 10.0

ITEMS: dict[str, Callable[[Path], bool]] = {
    "lives": lives.lives,
    "short": sizes.short,
    "packages": faults.packages,
    "kills": faults.kills,
    "random-kills": random_kills.random_kills,
    "large": sizes.large,
    "memory": sizes.memory,
    "merge": sizes.merge,
    "pacing": pacing.pacing,
    "adaptive": adaptive.adaptive,
    "outage": outage.outage,
    "providers": providers.providers,
    "formats": formats.formats,
    "batch-file": batch_file.batch_file,
    "extraction": extraction.extraction,
    "duplicates": duplicates.duplicates,
    "packing": packing.packing,
    "embeddings": embeddings.embeddings,
    "recipes": recipes.recipes,
    "plan": estimates.plan,
    "cap": caps.cap,
    "batches": batches.batches,
    "batch-memory": batch_memory.batch_memory,
    "deadline": deadlines.deadline,
    "corruption": corruption.corruption,
    "config-fuzz": config_fuzz.config_fuzz,
    "servers": servers.servers,
    "openai-versions": openai_versions.openai_versions,
    "steps": steps.steps,
    "judge": judging.judge,
    "cluster": cluster.cluster,
    "soak": soak.soak,
}


def main() -> int:
    """Run the items. Returns 0 when all hold."""
    parser = argparse.ArgumentParser(prog="scripts/prove", description=__doc__)
    parser.add_argument(
        "--only", type=named, default=list(ITEMS), metavar="ITEM,...", help=f"some of: {', '.join(ITEMS)}"
    )
    parser.add_argument(
        "--log",
        type=Path,
        metavar="DIR",
        help="where these files go; else into a new folder of the system's for temporary files",
    )
    arguments = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what an item and its processes print stays in order
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends with this
    (ROOT / "data").mkdir(exist_ok=True)
    logs: Path = arguments.log or Path(tempfile.mkdtemp(prefix="prove-"))
    logs.mkdir(parents=True, exist_ok=True)
    print(f"what is printed is kept in {logs}\n", flush=True)
    failed = []
    # On a disk, beside the checkout: the usual directory for temporary files is memory on some machines.
    with tempfile.TemporaryDirectory(prefix="prove-", dir=ROOT / "data") as folder:
        for item in arguments.only:
            with kept(logs / f"{item}.txt"):
                if not proven(item, Path(folder)):
                    failed.append(item)
    if failed:
        print(f"failed: {', '.join(failed)}; see {logs}")
    return 1 if failed else 0


def proven(item: str, folder: Path) -> bool:
    """Run one item, and print what it says and whether it holds."""
    print(f"{item}:", flush=True)
    began = time.monotonic()
    try:
        holds = ITEMS[item](folder)
    except (ItemError, CorpusError) as error:
        print(f"  {error}")
        holds = False
    except Exception:  # noqa: BLE001 - one item that breaks must not hide the others' figures
        traceback.print_exc(file=sys.stdout)
        holds = False
    print(f"{item}: {'PASS' if holds else 'FAIL'} ({time.monotonic() - began:.0f} s)\n", flush=True)
    return holds


@contextmanager
def kept(path: Path) -> Iterator[None]:
    """Write all that is printed meanwhile to a file too, also what processes print that are started here."""
    sys.stdout.flush()
    # -i: at a Ctrl-C it stays for the last words.
    tee = subprocess.Popen(["tee", "-i", str(path)], stdin=subprocess.PIPE)
    assert tee.stdin is not None
    usual = os.dup(1), os.dup(2)
    for number in (1, 2):
        os.dup2(tee.stdin.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush()
        for number, before in enumerate(usual, 1):
            os.dup2(before, number)
            os.close(before)
        tee.stdin.close()
        try:
            tee.wait(_LAST_WORDS_S)
        except subprocess.TimeoutExpired:  # a process that an item has left behind holds the other end
            tee.kill()
            tee.wait()


def named(text: str) -> list[str]:
    """Return the items named in a comma-separated text, in the order in which they run."""
    wanted = set(text.split(","))
    if unknown := wanted - ITEMS.keys():
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
    return [item for item in ITEMS if item in wanted]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
