"""Holds the promises at full size: real rows with faults and kills, a million others, limits, formats, money, batches.

Each item prints its figures and PASS or FAIL. All of them take about an hour and a half, and 10 GB of disk.
"""

import argparse
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
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
    lives,
    outage,
    pacing,
    packing,
    providers,
    random_kills,
    recipes,
    servers,
    sizes,
)
from scripts.proving.runs import ItemError

ROOT = Path(__file__).parents[2]

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
    "cluster": cluster.cluster,
}


def main() -> int:
    """Run the items. Returns 0 when all hold."""
    parser = argparse.ArgumentParser(prog="scripts/prove", description=__doc__)
    parser.add_argument(
        "--only", type=named, default=list(ITEMS), metavar="ITEM,...", help=f"some of: {', '.join(ITEMS)}"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends with this
    (ROOT / "data").mkdir(exist_ok=True)
    failed = []
    # On a disk, beside the checkout: the usual directory for temporary files is memory on some machines.
    with tempfile.TemporaryDirectory(prefix="prove-", dir=ROOT / "data") as folder:
        for item in arguments.only:
            print(f"{item}:", flush=True)
            began = time.monotonic()
            try:
                holds = ITEMS[item](Path(folder))
            except (ItemError, CorpusError) as error:
                print(f"  {error}")
                holds = False
            except Exception:  # noqa: BLE001 - one item that breaks must not hide the others' figures
                traceback.print_exc(file=sys.stdout)
                holds = False
            print(f"{item}: {'PASS' if holds else 'FAIL'} ({time.monotonic() - began:.0f} s)\n", flush=True)
            if not holds:
                failed.append(item)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


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
