"""Three providers at once: every budget is used up, and one that dies is stood in for until it is back."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rowmill.core.simulator import SimulatorSettings
from scripts import corpus
from scripts.proving.runs import SOME_FAILED, Column, ItemError, Run, Series, Witness, check, simulator

PROMPT = "Summarise in one line:\n{text}"
WORKERS = 2
LATENCY_MS = 200.0
WEIGHTS = {"east": 1, "north": 2, "west": 5}
BUDGETS = {"east": 3_000, "north": 9_000, "west": 12_000}  # requests a minute
BUDGETS_S = 45
LEAST_USED = 0.95
MOST_REFUSED = 0.001

# The one that dies is what most rows go to; the others have room for its rows, one of them less than its part.
ROOM = {"east": 2_400, "north": 15_000, "west": 30_000}
DIES = "west"
SLOTS = 20  # of a worker: fewer than would use up the budgets, so that the weights decide
BEFORE_S, DEAD_S, AFTER_S = 25, 30, 35
SETTLING_S = 5
RECOVERY_S = 15
LEAST_TAKEN_OVER, LEAST_BACK = 0.9, 0.9
WEIGHT_TOLERANCE = 0.1


def providers(folder: Path) -> bool:
    """Use up three budgets, then let a provider die and come back."""
    return _budgets(folder) & _death(folder)


def _tables(witness: Witness, budgets: Mapping[str, int]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "base_url": witness.url_of(name),
            "timeout_s": 30,
            "weight": weight,
            "requests_per_minute": budgets[name],
        }
        for name, weight in WEIGHTS.items()
    ]


def _settings(budgets: Mapping[str, int]) -> SimulatorSettings:
    limits = {
        name: SimulatorSettings(latency_ms=LATENCY_MS, requests_per_minute=budget) for name, budget in budgets.items()
    }
    return SimulatorSettings(providers=limits)


def _budgets(folder: Path) -> bool:
    rows = sum(BUDGETS.values()) * BUDGETS_S // 60
    source = folder / "budgets.jsonl"
    corpus.write(corpus.synthetic(rows, 200), source)
    with simulator(_settings(BUDGETS)) as witness:
        run = Run(folder / "budgets", source, _tables(witness, BUDGETS), PROMPT, workers=WORKERS, concurrency="auto")
        run.finish(SOME_FAILED)
        total = witness.stats()
        each = {name: witness.stats(name) for name in BUDGETS}
    seconds = total["last"] - total["first"]
    holds = True
    for name, budget in BUDGETS.items():
        used = each[name]["admitted"] / (budget / 60 * seconds)
        refused = each[name]["by_status"].get("429", 0)
        holds &= check(
            f"{name}: budget",
            used >= LEAST_USED and refused <= MOST_REFUSED * each[name]["requests"],
            f"{used:.2%} of {budget:,} a minute used in {seconds:.1f} s, at least {LEAST_USED:.0%}; {refused} refused",
        )
    failed = run.report["totals"]["failed"]
    return holds & check("rows", failed == 0, f"{rows:,}, {failed} failed")


def _death(folder: Path) -> bool:
    source = folder / "death.jsonl"
    per_s = WORKERS * SLOTS / (LATENCY_MS / 1000)  # at the most
    rows = round(per_s * (BEFORE_S + DEAD_S + AFTER_S))
    corpus.write(corpus.synthetic(rows, 200), source)
    with simulator(_settings(ROOM)) as witness:
        run = Run(folder / "death", source, _tables(witness, ROOM), PROMPT, workers=WORKERS, concurrency=SLOTS)
        with run.started() as process:
            run.last_until(run.begin(process, witness) + BEFORE_S, process)
            struck = time.time()
            witness.fail(DIES, "503", DEAD_S)
            run.wait(process, SOME_FAILED)
        series = {name: Series(witness.stats(name)) for name in ROOM}
        stats = witness.stats()
    healed = struck + DEAD_S
    first, last = stats["first"], stats["last"]
    phases = {
        "before": (first + SETTLING_S, struck),
        "dead": (struck + SETTLING_S, healed),
        "back": (healed + RECOVERY_S, last - 1),
    }
    rates = {
        phase: {name: each.per_s(Column.ANSWERED, *moments) for name, each in series.items()}
        for phase, moments in phases.items()
    }
    for phase, answered in rates.items():
        shown = ", ".join(f"{name} {rate:.1f}" for name, rate in answered.items())
        print(f"  {phase}: {shown}; together {sum(answered.values()):.1f} rows/s")
    before, dead, back = rates.values()
    usual = sum(before.values())
    if not usual:
        raise ItemError("nothing was answered before the outage")
    weights = sum(WEIGHTS.values())
    worst = max(abs(before[name] / usual / (weight / weights) - 1) for name, weight in WEIGHTS.items())
    holds = check(
        "weights", worst <= WEIGHT_TOLERANCE, f"at most {worst:.1%} beside them, {WEIGHT_TOLERANCE:.0%} allowed"
    )
    room = min(usual, sum(budget / 60 for name, budget in ROOM.items() if name != DIES))
    taken = sum(dead.values()) / room
    holds &= check(
        "taken over",
        taken >= LEAST_TAKEN_OVER,
        f"{taken:.1%} of what the others can take, {room:.0f} rows/s; at least {LEAST_TAKEN_OVER:.0%}",
    )
    returned = back[DIES] / before[DIES]
    holds &= check(
        "returned",
        returned >= LEAST_BACK and sum(back.values()) >= LEAST_BACK * usual,
        f"{returned:.1%} of its rows {RECOVERY_S} s after it was well again, at least {LEAST_BACK:.0%}; all together "
        f"{sum(back.values()) / usual:.1%}",
    )
    asked = series[DIES].per_s(Column.REQUESTS, *phases["dead"])
    print(f"  while it was dead it was asked {asked:.1f} times a second; {stats['requests'] / rows:.3f} requests a row")
    lines = run.output.read_bytes().count(b"\n")
    failed = run.report["totals"]["failed"]
    return holds & check("rows", lines == rows and failed == 0, f"{lines:,} of {rows:,} in the output, {failed} failed")
