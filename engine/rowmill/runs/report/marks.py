"""What happened in a run, to be marked on its timeline: starts and ends, kills, caps, holds, outages, the log."""

import re
from collections.abc import Iterator, Sequence

from rowmill.core.errors import ExitCode
from rowmill.core.moments import Moment
from rowmill.core.plain_text import one_line
from rowmill.core.reports import SessionReport
from rowmill.runs.report.document import Mark
from rowmill.runs.report.sources import RunSources, seconds_of, state_of
from rowmill.runs.report.texts import cut

_MOST = 240  # marks; the shortest holds give way first
_NOTES = 60
_APART = 0.01  # of the whole time: two holds of a provider that are less apart are told as one,
_TOGETHER_S = 1.5  # and so are those of two seconds that follow each other
_NAME, _LINE = 80, 300  # characters
_TOLD = re.compile(r"rowmill run |ended with exit code|stopping: ")  # of the log: sessions tell the same
_KINDS = {"holding": "hold", "failing": "outage", "recovering": "outage", "closed": "closed"}
_WORDS = {
    "hold": "{name} asked for silence",
    "outage": "{name} failed and was left alone",
    "closed": "{name} was closed",
}


def marks(sources: RunSources) -> list[Mark]:
    """Return them in their order."""
    found = [*_of_sessions(sources), *_of_log(sources)]
    length = sum(each.seconds for each in sources.moments)
    intervals = sorted(_intervals(sources.moments, length * _APART), key=_length, reverse=True)
    found += intervals[: max(0, _MOST - len(found))]
    return sorted(found[-_MOST:], key=lambda mark: mark.at)


def _length(mark: Mark) -> tuple[bool, float]:
    return mark.kind != "hold", (mark.until or mark.at) - mark.at


def _of_sessions(sources: RunSources) -> Iterator[Mark]:
    sessions = sources.sessions
    for place, session in enumerate(sessions[-_MOST // 4 :]):
        first = place == 0 and len(sessions) <= _MOST // 4
        how = ", by batches" if session.mode == "batch" else ""
        started, ended = seconds_of(session.started), seconds_of(session.ended)
        if started is not None:
            yield Mark(
                at=started,
                until=None,
                kind="start" if first else "resume",
                words=f"{'started' if first else 'resumed'}{how}",
            )
        state = state_of(session, at_work=session is sources.current and sources.at_work)
        if state != "running" and ended is not None:
            yield Mark(at=ended, until=None, kind=_end(session, state), words=words_of_end(session, state))


def _end(session: SessionReport, state: str) -> str:
    if state == "killed":
        return "kill"
    if state == "finished":
        return "end"
    return "cap" if session.exit_code == ExitCode.BUDGET else "stop"


def words_of_end(session: SessionReport, state: str) -> str:
    """Return how a session ended, in a line."""
    if state == "running":
        return "at work"
    if state == "finished":
        return "finished" if session.exit_code == ExitCode.OK else "finished, with failed rows"
    return cut(one_line(session.stopped_by or f"ended with exit code {session.exit_code}"), _LINE)


def _of_log(sources: RunSources) -> list[Mark]:
    lines = [(at, text) for at, text in sources.log_lines() if not _TOLD.match(text)]
    return [Mark(at=at, until=None, kind="note", words=cut(one_line(text), _LINE)) for at, text in lines[-_NOTES:]]


def _intervals(moments: Sequence[Moment], apart: float) -> Iterator[Mark]:
    """Yield the times in which a provider took nothing, each from its first moment to its last one."""
    open_marks: dict[str, Mark] = {}
    for moment in moments:
        start = moment.at - moment.seconds
        for name, provider in moment.providers.items():
            kind = _KINDS.get(provider.state)
            if kind is None:
                continue
            last = open_marks.get(name)
            if last is not None and last.kind == kind and start - (last.until or 0.0) <= max(_TOGETHER_S, apart):
                last.until = moment.at
                continue
            if last is not None:
                yield last
            words = _WORDS[kind].format(name=cut(one_line(name), _NAME))
            open_marks[name] = Mark(at=start, until=moment.at, kind=kind, words=words, provider=cut(name, _NAME))
    yield from open_marks.values()
