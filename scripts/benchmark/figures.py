"""From samples to figures, ratios and verdicts: medians over the rounds, as a table and as JSON."""

import math
from statistics import median
from typing import Any, NamedTuple

from scripts.benchmark.clients import CLIENTS
from scripts.benchmark.measure import Sample


class Round(NamedTuple):
    """One client in one round: a small run and a full one."""

    small: Sample
    full: Sample

    def figures(self) -> dict[str, float]:
        """Return the whole run's figures and the steady ones: what the rows cost that only the full run had."""
        rows = self.full.rows - self.small.rows
        wall = self.full.wall_s - self.small.wall_s
        cpu = self.full.cpu_s - self.small.cpu_s
        told_apart = min(rows, wall, cpu) > 0  # not where runs are so short that start-up's noise is larger
        return {
            "rows_per_s": self.full.rows / self.full.wall_s,
            "cpu_us_per_row": self.full.cpu_s / self.full.rows * 1e6,
            "core_share": self.full.cpu_s / self.full.wall_s,
            "steady_rows_per_s": rows / wall if told_apart else math.nan,
            "steady_cpu_us_per_row": cpu / rows * 1e6 if told_apart else math.nan,
        }


Results = dict[str, list[Round]]  # client name -> its rounds


def medians(rounds: list[Round]) -> dict[str, float]:
    """Return the median of each figure."""
    every = [one.figures() for one in rounds]
    return {name: median(figures[name] for figures in every) for name in every[0]}


class Target(NamedTuple):
    """What `rowmill run` has to reach, compared with another client."""

    text: str
    other: str
    at_least: float


TARGETS = (
    Target("direct / bare pyreqwest on asyncio", "bare-asyncio", 0.85),
    Target("direct / bare pyreqwest on uvloop", "bare-uvloop", 0.85),
    Target("direct / AsyncOpenAI and gather", "gather", 30.0),
)


def ratios(results: Results, target: Target) -> dict[str, float] | None:
    """Return how many times as fast `direct` is, as the median of paired rounds; None where one was not measured."""
    ours, others = results.get("direct"), results.get(target.other)
    if not ours or not others:
        return None
    pairs = [(a.figures(), b.figures()) for a, b in zip(ours, others, strict=False)]
    return {
        "steady": median(a["steady_rows_per_s"] / b["steady_rows_per_s"] for a, b in pairs),
        "whole": median(a["rows_per_s"] / b["rows_per_s"] for a, b in pairs),
        "steady_cpu": median(b["steady_cpu_us_per_row"] / a["steady_cpu_us_per_row"] for a, b in pairs),
    }


def table(results: Results) -> str:
    """Return the figures as text."""
    lines = [
        f"{'':34}{'':>9}  {'whole run':^31}  {'steady state':^20}",
        f"{'way':34}{'rows':>9}  {'rows/s':>9} {'CPU µs/row':>11} {'of core':>9}  {'rows/s':>9} {'CPU µs/row':>11}",
    ]
    for client in CLIENTS:
        if rounds := results.get(client.name):
            figures = medians(rounds)
            lines.append(
                f"{client.title:34}{rounds[0].full.rows:>9,}  {figures['rows_per_s']:>9,.0f} "
                f"{figures['cpu_us_per_row']:>11,.1f} {figures['core_share']:>9.0%}  "
                f"{figures['steady_rows_per_s']:>9,.0f} {figures['steady_cpu_us_per_row']:>11,.1f}"
            )
    return "\n".join(lines)


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
    """Return everything measured as a JSON value."""
    return {
        "ways": {
            name: {
                "median": medians(rounds),
                "rounds": [{"small": one.small._asdict(), "full": one.full._asdict()} for one in rounds],
            }
            for name, rounds in results.items()
            if rounds
        },
        "ratios": {target.other: ratios(results, target) for target in TARGETS},
    }
