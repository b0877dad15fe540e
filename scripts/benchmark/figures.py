"""From samples to figures, ratios and verdicts: medians over the rounds, as tables and as JSON."""

import math
from collections.abc import Iterable
from statistics import median
from typing import Any, NamedTuple

from scripts.benchmark.clients import CLIENTS
from scripts.benchmark.loads import LOADS, PLAIN, Load
from scripts.benchmark.measure import Sample

MB = 1e6


class Round(NamedTuple):
    """One client in one round: a small run and a full one."""

    small: Sample
    full: Sample
    grows: bool = False  # the full run had more in flight, so that what differs is not what rows take

    def figures(self) -> dict[str, float]:
        """Return the whole run's figures and the steady ones: what the rows cost that only the full run had.

        What was not looked at, or cannot be told apart from noise, is not a number.
        """
        rows = 0 if self.grows else self.full.rows - self.small.rows
        few, many = self.small.usage, self.full.usage
        wall, cpu = many.wall_s - few.wall_s, many.cpu_s - few.cpu_s
        first = many.first_cpu_s - few.first_cpu_s
        # Not where runs are so short that start-up's noise is larger. On a busy machine that is so of the time alone.
        wall_told, cpu_told = min(rows, wall) > 0, min(rows, cpu) > 0
        more = (self.full.in_flight or 0) - (self.small.in_flight or 0)
        return {
            "rows_per_s": self.full.rows / many.wall_s,
            "cpu_us_per_row": many.cpu_s / self.full.rows * 1e6,
            "core_share": many.cpu_s / many.wall_s,
            "steady_rows_per_s": rows / wall if wall_told else math.nan,
            "steady_cpu_us_per_row": cpu / rows * 1e6 if cpu_told else math.nan,
            "steady_first_cpu_us_per_row": first / rows * 1e6 if cpu_told else math.nan,
            "first_mb": many.first_bytes / MB or math.nan,
            "child_mb": many.child_bytes / MB or math.nan,
            "in_flight": self.full.in_flight or math.nan,
            "bytes_in_flight": (many.child_bytes - few.child_bytes) / more if self.grows and more > 0 else math.nan,
        }


Results = dict[str, list[Round]]  # name of a client -> its rounds


def medians(rounds: list[Round]) -> dict[str, float]:
    """Return the median of each figure."""
    every = [one.figures() for one in rounds]
    return {name: middle(figures[name] for figures in every) for name in every[0]}


def middle(values: Iterable[float]) -> float:
    """Return the median of those that are numbers; without any, none."""
    numbers = [value for value in values if not math.isnan(value)]
    return median(numbers) if numbers else math.nan


class Target(NamedTuple):
    """What `rowmill run` has to reach under the plain load, compared with another client."""

    text: str
    other: str
    at_least: float


TARGETS = (
    Target("direct / bare pyreqwest on asyncio", "plain/bare-asyncio", 0.85),
    Target("direct / bare pyreqwest on uvloop", "plain/bare-uvloop", 0.85),
    Target("direct / AsyncOpenAI and gather", "plain/gather", 30.0),
)


def ratios(results: Results, target: Target) -> dict[str, float] | None:
    """Return how many times as fast `direct` is, as the median of paired rounds; None where one was not measured."""
    pairs = paired(results, f"{PLAIN.name}/direct", target.other)
    if not pairs:
        return None
    return {
        "steady": middle(a["steady_rows_per_s"] / b["steady_rows_per_s"] for a, b in pairs),
        "whole": middle(a["rows_per_s"] / b["rows_per_s"] for a, b in pairs),
        "steady_cpu": middle(b["steady_cpu_us_per_row"] / a["steady_cpu_us_per_row"] for a, b in pairs),
    }


def paired(results: Results, one: str, other: str) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Return the figures of two clients, round by round."""
    return [(a.figures(), b.figures()) for a, b in zip(results.get(one, []), results.get(other, []), strict=False)]


def times_direct(results: Results, load: Load, name: str) -> float:
    """Return how many times the CPU a row of `direct` under the same load a client takes, the median of pairs."""
    pairs = paired(results, f"{load.name}/direct", name)
    return middle(b["steady_cpu_us_per_row"] / a["steady_cpu_us_per_row"] for a, b in pairs)


def tables(results: Results, servers: dict[str, str]) -> str:
    """Return the figures as text, load by load. `servers`: the name of each load's own."""
    return "\n\n".join(
        table(load, results, servers[load.name])
        for load in LOADS
        if any(rounds for name, rounds in results.items() if name.startswith(f"{load.name}/"))
    )


def table(load: Load, results: Results, server: str) -> str:
    """Return the figures of one load as text."""
    clients = [client for client in CLIENTS if client.load == load and results.get(client.name)]
    of = f"{'rows/s':>9} {'CPU µs/row':>11}"
    lines = [
        f"{load.name}: {load.title} ({server})",
        f"{'':34}{'':>9}  {'whole run':^31}  {'steady state':^28}",
        f"{'way':34}{'rows':>9}  {of} {'of core':>9}  {of} x direct",
    ]
    for client in clients:
        rounds = results[client.name]
        figures = medians(rounds)
        lines.append(
            f"{client.title:34}{rounds[0].full.rows:>9,}  {figures['rows_per_s']:>9,.0f} "
            f"{figures['cpu_us_per_row']:>11,.1f} {figures['core_share']:>9.0%}  "
            f"{number(figures['steady_rows_per_s'], 9, 0)} {number(figures['steady_cpu_us_per_row'], 11, 1)} "
            f"{number(times_direct(results, load, client.name), 8, 2)}"
        )
    if load.watched:
        lines.append(
            f"{'':34}{'most in':>9}  {'CPU of the first process':^31}  {'highest memory in MB':^20}  {'bytes of':>9}"
        )
        lines.append(
            f"{'':34}{'flight':>9}  {'µs/row':>15} {'of all':>15}  {'first':>9} {'others':>10}  {'a request':>9}"
        )
    for client in clients if load.watched else []:
        figures = medians(results[client.name])
        first = figures["steady_first_cpu_us_per_row"]
        lines.append(
            f"{client.title:34}{number(figures['in_flight'], 9, 0)}  {number(first, 15, 2)} "
            f"{number(first / figures['steady_cpu_us_per_row'] * 100, 14, 1)}%  {number(figures['first_mb'], 9, 0)} "
            f"{number(figures['child_mb'], 10, 0)}  {number(figures['bytes_in_flight'], 9, 0)}"
        )
    return "\n".join(lines)


def number(value: float, width: int, digits: int) -> str:
    """Return a figure for a column, or a sign that there is none."""
    return f"{'-':>{width}}" if math.isnan(value) else f"{value:>{width},.{digits}f}"


def verdicts(results: Results, basis: str) -> tuple[str, bool]:
    """Return the ratios as text, and whether every measured one reaches its target.

    `basis` is the ratio that is judged: "steady" (rows/s), or "steady_cpu" where the server is the limit.
    """
    lines = [f"{'ratio':38}{'steady':>9} {'whole':>9} {'CPU':>9}   target"]
    good = True
    for target in TARGETS:
        if ratio := ratios(results, target):
            reached = ratio[basis] >= target.at_least
            good = good and reached
            lines.append(
                f"{target.text:38}{ratio['steady']:>9.2f} {ratio['whole']:>9.2f} {ratio['steady_cpu']:>9.2f}   "
                f"{target.at_least:g}: {'pass' if reached else 'FAIL'}"
            )
    return (
        "\n".join(lines) if len(lines) > 1 else "no ratios: direct and what it is compared with did not both run"
    ), good


def as_json(results: Results) -> dict[str, Any]:
    """Return everything measured as a JSON value; what is not a number is null."""
    return {
        "ways": {
            name: {
                "median": known(medians(rounds)),
                "rounds": [{"small": sample(one.small), "full": sample(one.full)} for one in rounds],
            }
            for name, rounds in results.items()
            if rounds
        },
        "ratios": {target.other: known(ratios(results, target) or {}) or None for target in TARGETS},
    }


def known(measured: dict[str, float]) -> dict[str, float | None]:
    """Return figures as JSON has them, which knows no number that is none."""
    return {key: None if math.isnan(value) else value for key, value in measured.items()}


def sample(one: Sample) -> dict[str, Any]:
    """Return a sample as a JSON value."""
    return {"rows": one.rows, "in_flight": one.in_flight, **one.usage._asdict()}
