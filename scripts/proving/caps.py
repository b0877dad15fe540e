"""Caps: the bill meets each of them, whatever dies; a higher one finishes the run, and nothing is sent twice."""

import signal
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from rowmill.core.errors import ExitCode
from rowmill.core.simulator import SimulatorSettings
from scripts.proving import estimates
from scripts.proving.estimates import PRICES, PROMPT, ROWS, CostCalculator
from scripts.proving.packing import SYSTEM
from scripts.proving.runs import Run, Tables, Witness, check, children, gone, simulator, until, workers

SHARE = 0.4  # of the estimate
MOST_OFF = 0.01  # of the cap
WORKERS = 4
SLOTS = 128  # of each worker: 512 in flight altogether
LATENCY_MS = 200.0
FAULTS = {"500": 0.005}  # they cost a request, and no tokens
KILLS = 3  # of workers, and after them one of the supervisor
_TOKENS = ("prompt_tokens", "completion_tokens")  # of a line of the report's cost
TABLES: Tables = {"task": {"system": SYSTEM, "params": {"max_tokens": 32}}, **PRICES}


class _Cap(NamedTuple):
    key: str
    billed: Callable[[CostCalculator], float]
    planned: Callable[[dict[str, Any]], float]  # of what the plan says
    form: str  # how an amount is shown


CAPS = (
    _Cap("max_usd", lambda bill: bill.usd, lambda plan: plan["live"]["usd"]["likely"], ",.5f"),
    _Cap(
        "max_tokens",
        lambda bill: bill.tokens,
        lambda plan: plan["tokens"]["prompt"]["likely"] + plan["tokens"]["reply"]["likely"],
        ",.0f",
    ),
    _Cap("max_requests", lambda bill: bill.requests, lambda plan: plan["counted"]["requests"], ",.0f"),
)


def cap(folder: Path) -> bool:
    """Run into a cap of each kind and finish with a higher one; then into one while processes are killed."""
    work = folder / "caps"
    work.mkdir()
    source = estimates.source_of(folder)
    planned = _prepared(work, "plan", source, "http://127.0.0.1:1/v1").plan()  # which asks nobody
    holds = True
    for each in CAPS:
        holds &= _undisturbed(work, source, each, SHARE * each.planned(planned))
    return holds & _killed(work, source, CAPS[0], SHARE * CAPS[0].planned(planned))


def _prepared(folder: Path, name: str, source: Path, url: str) -> Run:
    return Run(folder / name, source, url, PROMPT, workers=WORKERS, concurrency=SLOTS, tables=TABLES)


def _undisturbed(folder: Path, source: Path, of: _Cap, limit: float) -> bool:
    with simulator(SimulatorSettings(latency_ms=LATENCY_MS, faults=FAULTS, seed=6)) as witness:
        run = _prepared(folder, of.key, source, witness.url)
        run.set(f"budget.{of.key}", limit)
        code = run.finish(ExitCode.BUDGET)
        capped, stats = of.billed(estimates.bill(witness)), witness.stats()
        session = run.session
        print(f"  {of.key}: stopped by: {session['stopped_by']}")
        rows = run.report["totals"]["rows"]
        holds = check(
            f"{of.key}: the bill",
            abs(capped / limit - 1) <= MOST_OFF,
            f"{capped:{of.form}} of {limit:{of.form}}, {capped / limit:.2%}; {rows:,} rows, {stats['in_flight_max']} "
            f"in flight, {session['elapsed_s']:.1f} s",
        )
        holds &= check(f"{of.key}: exit code", code == ExitCode.BUDGET, str(code))
        run.set(f"budget.{of.key}", limit / SHARE * 2)
        holds &= _finished(f"{of.key}: resumed with a higher cap", run)
        return holds & _nothing_again(of.key, run, witness)


def _finished(name: str, run: Run) -> bool:
    code = run.finish()
    lines = sum(1 for _ in run.output.open("rb"))
    totals = run.report["totals"]
    figures = f"exit code {code}, {lines:,} lines, {totals['failed']} failed"
    return check(name, (code, lines, totals["failed"]) == (0, ROWS, 0), figures)


def _nothing_again(name: str, run: Run, witness: Witness) -> bool:
    stats, billed = witness.stats(), estimates.bill(witness)
    failed = sum(stats["by_fault"].values())
    again = stats["repeated_after_success"]
    holds = check(
        f"{name}: nothing is sent again",
        again == 0 and billed.requests == ROWS + failed,
        f"{billed.requests:,} requests = {ROWS:,} rows + {failed} that failed; {again} after an answer",
    )
    cost = run.report["cost"]
    told = CostCalculator(cost["requests"], *(sum(line["spent"][at] for line in cost["lines"]) for at in _TOKENS))
    return holds & check(
        f"{name}: the report's bill",
        told == billed and abs(cost["usd"] - billed.usd) < 1e-6,  # noqa: PLR2004 - what floats are rounded by
        f"{cost['usd']:.5f} USD, {cost['tokens']:,} tokens, {cost['requests']:,} requests; billed {billed.usd:.5f} USD",
    )


def _killed(folder: Path, source: Path, of: _Cap, limit: float) -> bool:
    random = Random(7)  # noqa: S311 - repeatable, no secret
    with simulator(SimulatorSettings(latency_ms=LATENCY_MS, faults=FAULTS, seed=7)) as witness:
        run = _prepared(folder, "killed", source, witness.url)
        run.set(f"budget.{of.key}", limit)
        part = limit / (KILLS + 2)
        moments = [part * (number + random.uniform(0.5, 1)) for number in range(KILLS + 1)]
        with run.started() as process:
            for moment in moments[:-1]:
                _spent(witness, of, moment, lambda: bool(workers(process)))
                random.choice(workers(process)).send_signal(signal.SIGKILL)
            _spent(witness, of, moments[-1], lambda: True)
            orphans = children(process)
            process.send_signal(signal.SIGKILL)
            until(lambda: all(map(gone, orphans)), "the end of the workers", 60)
        code = run.finish(ExitCode.BUDGET)
        capped = of.billed(estimates.bill(witness))
        cost = run.report["cost"]
        print(f"  killed: stopped by: {run.session['stopped_by']}")
        holds = check(
            f"{of.key}, {KILLS} workers and the supervisor killed: the bill",
            capped / limit - 1 <= MOST_OFF and code == ExitCode.BUDGET,
            f"{capped:{of.form}} of {limit:{of.form}}, {capped / limit:.2%}, exit code {code}; by the report "
            f"{cost['usd']:.5f}, and {cost['lost_usd']:.5f} that may have been billed and brought no reply",
        )
        run.set(f"budget.{of.key}", limit / SHARE * 2)
        holds &= _finished("killed: resumed with a higher cap", run)
        stats = witness.stats()
    again = stats["requests"] - sum(stats["by_fault"].values()) - ROWS
    print(f"  killed: {again:,} requests went out again that died with their process")
    return holds


def _spent(witness: Witness, of: _Cap, amount: float, ready: Callable[[], bool]) -> None:
    until(lambda: of.billed(estimates.bill(witness)) >= amount and ready(), "what was to be spent")
