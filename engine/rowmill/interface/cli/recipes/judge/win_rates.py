"""Who wins how often, by the verdicts of a run: python win_rates.py [verdicts.csv].

A row is won by the answer that both verdicts prefer, whichever stood first. Where they disagree, or find neither
better, it is a tie. Behind each share stand the bounds between which it lies with 95% (Wilson's interval).
"""

import csv
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from math import sqrt
from pathlib import Path

HALF = 0.5  # what a shares with b where neither is better
Z = 1.96  # of a normal distribution, so many standard deviations around the mean are 95%


def winner(row: Mapping[str, str]) -> str:
    """Return who wins a row: "a", "b", or "tie"."""
    forward = {"first": "a", "second": "b"}.get(row["judge.winner"])
    backward = {"first": "b", "second": "a"}.get(row["winner"])
    return forward if forward is not None and forward == backward else "tie"


def interval(part: int, whole: int) -> tuple[float, float]:
    """Return the bounds of a share, 0 to 1, of which so many of the whole were counted."""
    if not whole:
        return 0.0, 1.0
    share, z2 = part / whole, Z * Z
    middle = (share + z2 / (2 * whole)) / (1 + z2 / whole)
    half = Z * sqrt(share * (1 - share) / whole + z2 / (4 * whole * whole)) / (1 + z2 / whole)
    return max(0.0, middle - half), min(1.0, middle + half)


def told(rows: Iterable[Mapping[str, str]]) -> list[str]:
    """Return the lines that say who wins."""
    judged = []
    failed = 0
    for row in rows:
        if row["error"]:
            failed += 1
        else:
            judged.append(row)
    wins = Counter(map(winner, judged))
    lines = [_line(who, wins[who], len(judged)) for who in ("a", "b", "tie")]
    decided = wins["a"] + wins["b"]
    low, high = interval(wins["a"], decided)
    who = "a is better" if low > HALF else "b is better" if high < HALF else "neither is shown to be better"
    lines.append(f"{who}: of the rows that are no tie {_line('a', wins['a'], decided).strip()}")
    first = sum(row["judge.winner"] == row["winner"] == "first" for row in judged)
    lines.append(f"both verdicts preferred what stood first in {first:,} of {len(judged):,} rows")
    if failed:
        lines.append(f"{failed:,} rows failed, and are not counted")
    return lines


def _line(who: str, part: int, whole: int) -> str:
    low, high = interval(part, whole)
    share = part / whole if whole else 0.0
    return f"{who:<4} {share:6.1%}  ({low:.1%} to {high:.1%}), {part:,} of {whole:,}"


def main() -> None:
    """Read the verdicts, and tell."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "verdicts.csv")
    with path.open(newline="", encoding="utf-8") as file:
        print("\n".join(told(csv.DictReader(file))))


if __name__ == "__main__":
    main()
