"""What a killed session has left: counted, written down, and only then removed.

A supervisor that is killed has written what was spent and how its session stood a second ago at the latest, with what
it knew of each worker then. What the workers have counted since stands on their boards: a process that is killed leaves
them, and workers that outlive their supervisor go on counting there. Together that is what the session has done.

First the session is written among the killed ones, then what was spent, with what of each board it now holds; then the
boards go. Whoever is killed in between has the next one find the same again, and add nothing twice.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from rowmill.budget import ledger
from rowmill.budget.ledger import Spending, SpendingLine
from rowmill.core import tallies
from rowmill.core.amounts import NOTHING, above
from rowmill.core.counts import Counters, ProviderSums
from rowmill.core.reports import ProviderFigures, SessionReport
from rowmill.core.tallies import Figures
from rowmill.store import durable
from rowmill.store.in_flight import BoardReading, read_board
from rowmill.store.run_directory import RunDirectory
from rowmill.supervisor.prepared import Prepared

KILLED = 137  # the exit code of a session that was killed, as a shell tells it
_BILLED = "billed"  # in what is known of a board: requests that went with its worker and may have been answered


class Aftermath(NamedTuple):
    """What there was of earlier sessions that have not told it themselves."""

    sessions: list[SessionReport]  # that were killed, and that no report has
    billed: int  # requests that may have been answered, of workers that no killed session had


def take_in(prepared: Prepared, reported: frozenset[str]) -> Aftermath:
    """Count what killed sessions have left. `reported`: the sessions that the report has, by id.

    To be called before a session begins, once no worker of an earlier one is left.
    """
    directory = prepared.directory
    spending = ledger.load(directory.spending)
    readings = {path: read_board(path) for path in directory.boards()}
    more = {reading.name: beyond(reading, spending) for reading in readings.values() if reading.name}
    killed = {each.id: each for each in killed_sessions(directory) if each.id not in reported}
    own: list[BoardReading] = []
    ended = spending.session
    if ended is not None and ended.id not in reported:
        own = [reading for reading in readings.values() if reading.name.startswith(f"{ended.id}-")]
        killed[ended.id] = _with(ended, [(reading, more[reading.name]) for reading in own], prepared.steps[-1].name)
        _save_killed(directory, list(killed.values()))
    elif not readings:
        return Aftermath(list(killed.values()), 0)
    named = [reading for reading in readings.values() if reading.name]
    _spend(prepared, spending, named, more)
    spending.session = None
    spending.counted = {reading.name: known(reading) for reading in named}
    ledger.save(directory.spending, spending, sync=True)
    forget(directory)
    nobodys = sum(reading.maybe_billed for reading in readings.values() if not reading.name)
    nobodys += sum(more[reading.name].get(_BILLED, 0) for reading in named if reading not in own)
    return Aftermath(list(killed.values()), nobodys)


def killed_sessions(directory: RunDirectory) -> list[SessionReport]:
    """Return the sessions that were killed; a damaged file only tells people something."""
    try:
        return msgspec.json.decode(directory.killed.read_bytes(), type=list[SessionReport])
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def as_left(directory: RunDirectory, spending: Spending, session: SessionReport, *, last: str = "") -> SessionReport:
    """Return the session that was killed last as its boards tell it, for who only looks: nothing is written.

    last: the name of the run's last step, where it has several.
    """
    readings = map(read_board, directory.boards())
    own = [each for each in readings if each.name.startswith(f"{session.id}-")]
    return _with(session, [(reading, beyond(reading, spending)) for reading in own], last)


def known(reading: BoardReading) -> Figures:
    """Return all that a board says, as it is written down of one that has been read."""
    return {**reading.counts, _BILLED: reading.maybe_billed}


def beyond(reading: BoardReading, spending: Spending) -> Figures:
    """Return what a board says beyond what was written down of it."""
    return tallies.beyond(known(reading), spending.counted.get(reading.name, {}))


def forget(directory: RunDirectory) -> None:
    """Remove the boards, of which everything is written down."""
    for path in directory.boards():
        path.unlink(missing_ok=True)


def _with(session: SessionReport, boards: list[tuple[BoardReading, Figures]], last: str) -> SessionReport:
    """Return the report of a killed session with what its boards say beyond it. last: the name of the last step."""
    counters = session.counters
    figures = {name: msgspec.structs.replace(each) for name, each in session.providers.items()}
    billed = session.billed_twice_max - counters.maybe_billed_twice
    for reading, more in boards:
        more = dict(more)  # noqa: PLW2901 - what is left of it
        billed += more.pop(_BILLED, 0)
        if reading.step != last:  # whose rows have further steps to go
            more.pop(tallies.ROWS, None)
            more.pop(tallies.FAILED, None)
        sums = {number: ProviderSums() for number in range(len(reading.providers))}
        tallies.add(more, counters, sums)
        for number, name in enumerate(reading.providers):
            _add_figures(figures.setdefault(name, ProviderFigures()), sums[number])
    return msgspec.structs.replace(
        session,
        exit_code=KILLED,
        stopped_by="killed, or its machine failed",
        rows=counters.rows,
        counters=counters,
        billed_twice_max=counters.maybe_billed_twice + billed,
        providers=figures,
    )


def _add_figures(figures: ProviderFigures, sums: ProviderSums) -> None:
    figures.requests += sums.requests
    figures.answered += sums.answered
    figures.limited += sums.limited
    figures.retries += sums.retries
    figures.prompt_tokens += sums.prompt_tokens
    figures.completion_tokens += sums.completion_tokens


def _spend(prepared: Prepared, spending: Spending, readings: list[BoardReading], more: Mapping[str, Figures]) -> None:
    """Add to what was spent what boards say beyond it. What was handed out is less by as much."""
    calculator = prepared.calculator
    before = sum(map(calculator.amount, spending.lines), NOTHING)
    for reading in readings:
        counters = Counters()
        sums = {number: ProviderSums() for number in range(len(reading.providers))}
        tallies.add({name: n for name, n in more[reading.name].items() if name != _BILLED}, counters, sums)
        spending.spared.add(counters.spared)
        spending.packed_tokens += counters.tokens_saved
        for number, name in enumerate(reading.providers):
            ledger.count(_line(prepared, spending, name, reading.step), sums[number])
        if not prepared.config.budget.limited:
            # Tokens of what is not on the disk are known, and counted; those of what was in flight are not.
            _count_doubtful(prepared, spending, reading, more[reading.name])
    told = sum(map(calculator.amount, spending.lines), NOTHING) - before
    spending.outstanding = above(spending.outstanding - told)


def _count_doubtful(prepared: Prepared, spending: Spending, reading: BoardReading, more: Figures) -> None:
    in_flight = min(len(reading.in_flight), more.get(_BILLED, 0))
    for name in reading.providers if in_flight else ():
        line = _line(prepared, spending, name, reading.step)
        line.lost.add(ledger.usual(line.spent, in_flight))
        return


def _line(prepared: Prepared, spending: Spending, provider: str, step: str) -> SpendingLine:
    """Return the line of a provider's that what names no model counts to: its first one of that step."""
    for line in spending.lines:
        if line.provider == provider and line.mode == "live" and (line.step or "") == step:
            return line
    config = prepared.step(step).config
    models = [config.model_of(each) for each in config.provider if each.name == provider]
    return spending.line(provider, (models[0] if models else None) or "", "live", step)


def _save_killed(directory: RunDirectory, sessions: list[SessionReport]) -> None:
    if sessions or directory.killed.exists():
        with durable.machine_errors(f"write {directory.killed}"):
            durable.replace_durably(directory.killed, msgspec.json.encode(sessions) + b"\n")
