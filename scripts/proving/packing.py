"""Packing: many rows in one request, some replies damaged, and still every row has its own answer."""

import itertools
import json
from pathlib import Path

from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator.replies import digest
from rowmill.simulator.replies.wording import tokens
from scripts.proving import faults
from scripts.proving.runs import Run, check, simulator

ROWS = 60_000
PACK = 20
WORKERS = 2
CONTENT_FAULTS = {"missing": 0.02, "duplicate": 0.01, "wrong-id": 0.01, "cut": 0.01}
MOST_REQUESTS = 0.08
SYSTEM = (
    "You write entries for the catalogue of a software archive. An entry is one line of plain English, without the "
    "package's name at its start, without a full stop at its end, and without praise. Say what the package is for, not "
    "how it is made; where it is one part of something larger, say of what. Leave out versions and licences."
)


def packing(folder: Path) -> bool:
    """Run packs of rows against a simulator that damages some of them."""
    everything, _ = faults.input_of(folder)
    source = folder / "packing.jsonl"
    with everything.open("rb") as file:
        source.write_bytes(b"".join(itertools.islice(file, ROWS)))
    tables = {"task": {"rows_per_request": PACK, "system": SYSTEM}}
    with simulator(SimulatorSettings(latency_ms=faults.LATENCY_MS, content_faults=CONTENT_FAULTS, seed=3)) as witness:
        run = Run(folder / "packing", source, witness.url, faults.PROMPT, workers=WORKERS, tables=tables)
        run.finish()
        stats = witness.stats()
    session = run.session
    counters = session["counters"]
    print(f"  {session['rows_per_s']:,.0f} rows/s, {session['elapsed_s']:.1f} s, damaged packs {stats['by_fault']}")
    in_order, own, alone = 0, 0, 0
    with source.open("rb") as asked, run.output.open("rb") as answered:
        for index, (question, line) in enumerate(itertools.zip_longest(asked, answered, fillvalue=b"{}")):
            row, answer = json.loads(question), json.loads(line)
            if answer.get("index") == index and answer["id"] == row.get("id"):
                prompt = faults.PROMPT.format(**row)
                in_order += 1
                own += (answer["output"] or "").endswith(f"[{digest(prompt)}]")
                alone += tokens(len(SYSTEM) + len(prompt))
    holds = check("one line for every row, in order", in_order == ROWS, f"{in_order:,}")
    holds &= check("each answer is its own row's", own == ROWS, f"{own:,} digests")
    requests = stats["requests"]
    holds &= check(
        "requests",
        requests <= MOST_REQUESTS * ROWS,
        f"{requests:,}, {requests / ROWS:.2%} of the rows, at most {MOST_REQUESTS:.0%}",
    )
    spent = stats["prompt_tokens"]
    print(f"  {counters['packed']:,} rows went out with others; {counters['reasked']:,} requests asked again")
    print(
        f"  prompt tokens: {spent:,}; one by one the rows take {alone:,}, {alone - spent:,} more; saved by "
        f"the report's estimate: {counters['tokens_saved']:,}"
    )
    return holds
