"""ProgressDisplay where there is no terminal to draw on: short plain lines, few enough for a log."""

from typing import TextIO

from rowmill.core.plain_text import one_line
from rowmill.core.reports import Snapshot
from rowmill.interface.ui import batches, figures, money, phrases

_LINE_EVERY_S = 10.0  # of the snapshots' own elapsed time: 360 lines an hour, which a log can hold
_BATCH_LINE_EVERY_S = 60.0  # batches take hours, and are looked at about as often; their changes are told at once
_CHANGE_EVERY_S = 1.0  # a provider between holding and recovering changes its state many times a minute


class LogLines:
    """One short line at the start, at changes that matter, and every ten seconds between."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream
        self._shown: Snapshot | None = None

    def show(self, snapshot: Snapshot) -> None:
        """Write a line if one is due."""
        if self._is_due(snapshot):
            self._shown = snapshot
            self._write(progress_line(snapshot))

    def log(self, line: str) -> None:
        """Write the event as a line of its own."""
        self._write(one_line(line))

    def close(self) -> None:
        """Write no more."""
        self._stream = None

    def _is_due(self, snapshot: Snapshot) -> bool:
        last = self._shown
        if last is None:
            return True
        since = snapshot.elapsed_s - last.elapsed_s
        return (
            since >= (_BATCH_LINE_EVERY_S if batches.in_use(snapshot) else _LINE_EVERY_S)
            or snapshot.deaths != last.deaths
            or snapshot.draining != last.draining
            or (since >= _CHANGE_EVERY_S and _standing(snapshot) != _standing(last))
        )

    def _write(self, line: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # ValueError is what a closed stream raises
            self._stream = None


def _standing(snapshot: Snapshot) -> tuple[dict[str, str], set[str], object]:
    """Return what is told as soon as it changes: providers, notices and batches."""
    states = {provider.name: provider.state for provider in snapshot.providers}
    statuses = {(each.part, each.attempt, each.status) for each in snapshot.batches}
    return states, set(snapshot.notices), (snapshot.parts, statuses)


def progress_line(snapshot: Snapshot) -> str:
    """Return where the run stands in one line; two spaces stand between its parts."""
    return "  ".join(part for group in progress_parts(snapshot) for part in group)


def progress_parts(snapshot: Snapshot) -> list[list[str]]:
    """Return where the run stands in parts, those together that belong together; no group is empty."""
    totals = snapshot.totals
    batch = batches.in_use(snapshot)
    pace = [[], _batch_pace(snapshot)] if batch else _live_pace(snapshot)
    groups = [
        [phrases.rows_done(snapshot) + f" failed {totals.failed:,}", *pace[0]],
        pace[1],
        phrases.steps(snapshot),
        [
            f"tokens {figures.compact(totals.prompt_tokens)}+{figures.compact(totals.completion_tokens)}",
            *(", ".join(group) for group in money.so_far(snapshot.cost, batch=batch)),
        ],
        [
            *([] if batch else [phrases.workers(snapshot)]),
            *phrases.waiting(snapshot),
            *([f"worker deaths {snapshot.deaths:,}"] if snapshot.deaths else []),
            *(["draining"] if snapshot.draining else []),
        ],
        *([phrases.standing(provider)] for provider in phrases.not_open(snapshot)),
        *([notice] for notice in phrases.notices(snapshot)),
        phrases.slowed_by(snapshot),
    ]
    return [group for group in groups if group]


def _live_pace(snapshot: Snapshot) -> list[list[str]]:
    return [
        [figures.rate(snapshot.rows_per_s), phrases.eta(snapshot)],
        [f"in flight {snapshot.in_flight:,}/{snapshot.allowed:,}", f"retries {snapshot.counters.retries:,}"],
    ]


def _batch_pace(snapshot: Snapshot) -> list[str]:
    parts = batches.parts_done(snapshot)
    statuses = ", ".join(batches.by_status(snapshot.batches))
    return [
        *([phrases.eta(snapshot)] if batches.has_eta(snapshot) else []),
        f"{parts}; {statuses}" if statuses else parts,
        *batches.requests(snapshot),
    ]
