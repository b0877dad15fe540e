"""The report of a run, made of what its directory holds: at its end, while it goes on, and long after."""

import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from rowmill.core.config import Config
from rowmill.core.counts import Totals
from rowmill.core.fault_words import words_of
from rowmill.core.plain_text import one_line
from rowmill.core.reports import Cost, SessionReport, StepFigures
from rowmill.core.version import __version__
from rowmill.runs.report.asked_providers import asked_providers
from rowmill.runs.report.configuration import bare_url, shown_configuration
from rowmill.runs.report.document import (
    BatchFacts,
    CostEntry,
    CostFacts,
    FaultFacts,
    NodeFacts,
    RunDocument,
    RunFacts,
    SessionFacts,
    StepFacts,
    TotalFacts,
)
from rowmill.runs.report.marks import marks, words_of_end
from rowmill.runs.report.rows_seen import RowsSeen
from rowmill.runs.report.sources import RunSources, seconds_of, state_of
from rowmill.runs.report.texts import cut
from rowmill.runs.report.timeline import distributions, timeline
from rowmill.store.batch_records import Try

_PROVIDERS, _STEPS, _SESSIONS, _BATCHES, _NODES, _LINES, _KEYS = 48, 48, 100, 400, 100, 60, 200
_FAULTS, _NOTICES, _UNPRICED = 40, 20, 20
_NAME, _TEXT, _PATH = 120, 400, 1_000  # characters
_MB = 1e6
_MOST_BYTES = 1_800_000  # of a document in a page


def run_document(path: Path, config: Config | None, *, whole: bool, live: bool = False) -> RunDocument:
    """Return the report of the run in a directory. It is only read, also while the run is at work.

    config: its configuration, where it is at hand. whole: look at every row and at the input of each that is shown;
    else, where rows are very many, at some from all over. live: newer ones will follow as long as it is at work. Raises
    `RunDirectoryError` where there is no run, or another user's.
    """
    sources = RunSources(path)
    seen = RowsSeen(sources, config, whole=whole)
    totals, cost = seen.counted_into(sources.totals), sources.cost
    counted = {} if sources.report is None else sources.report.failures
    failures, more_failures = seen.failures(counted, totals.failed)
    sessions = sources.sessions[-_SESSIONS:]
    faults = sorted(sources.counters.faults.items(), key=lambda each: -each[1])
    nodes = [node for place, session in enumerate(sessions) for node in _nodes(place, session)]
    providers = asked_providers(sources.sessions, config, cost)
    tries = sorted(sources.tries, key=lambda each: each.created_at or each.since)
    keys = list(shown_configuration(config, sources.fingerprint))
    models = [] if cost is None else [line.model for line in cost.lines]
    return RunDocument(
        rowmill_version=__version__,
        made_at=round(time.time(), 3),
        live=live and sources.at_work,
        run=_run(sources, totals),
        totals=_totals(sources, totals),
        cost=None if cost is None else _cost(cost),
        timeline=timeline(sources.moments, [session.id for session in sessions], models[0] if models else ""),
        marks=marks(sources),
        distributions=distributions(sources.moments),
        failures=failures,
        more_failures=more_failures,
        faults=[
            FaultFacts(name=cut(name, _NAME), requests=count, meaning=words_of(name).meaning)
            for name, count in faults[:_FAULTS]
        ],
        fields=seen.fields(totals.rows - totals.failed),
        replies=seen.replies(),
        providers=providers[:_PROVIDERS],
        more_providers=max(0, len(providers) - _PROVIDERS),
        steps=[_step(each, cost) for each in sources.steps[:_STEPS]],
        more_steps=max(0, len(sources.steps) - _STEPS),
        win_rates=[] if sources.report is None else [*(sources.report.win_rates or ())][:_STEPS],
        batches=[_batch(each) for each in tries[-_BATCHES:]],
        more_batches=max(0, len(tries) - _BATCHES),
        sessions=[_session(sources, session) for session in sessions],
        more_sessions=len(sources.sessions) - len(sessions),
        nodes=nodes[:_NODES],
        more_nodes=max(0, len(nodes) - _NODES),
        configuration=[(cut(key, _NAME), value) for key, value in keys[:_KEYS]],
        more_configuration=max(0, len(keys) - _KEYS),
        problems=[cut(one_line(each), _TEXT) for each in sources.problems],
    )


def _step(step: StepFigures, cost: Cost | None) -> StepFacts:
    return StepFacts(
        name=cut(step.name, _NAME),
        rows=step.rows,
        failed=step.failed,
        left_out=step.left_out,
        requests=step.requests,
        prompt_tokens=step.prompt_tokens,
        completion_tokens=step.completion_tokens,
        usd=None if cost is None else cost.usd_of_step(step.name),
    )


def _run(sources: RunSources, totals: Totals) -> RunFacts:
    run, report, state = sources.found.run, sources.report, sources.state
    last = sources.sessions[-1] if sources.sessions else None
    notices = [notice for session in sources.sessions for notice in session.notices]
    if sources.at_work and sources.snapshot is not None:
        notices += sources.snapshot.notices
    shown = list(dict.fromkeys(cut(one_line(notice), _TEXT) for notice in notices))[-_NOTICES:]
    return RunFacts(
        id=cut(sources.manifest.run_id, _NAME),
        run_dir=cut(run.run_dir, _PATH),
        input=_place(run.input),
        output=_place(run.output or ("" if report is None else report.output)),
        errors=None if report is None or report.errors is None else _place(report.errors),
        state=state,
        words=_words(sources, last),
        next=_next(sources, totals),
        started=seconds_of(sources.sessions[0].started if sources.sessions else sources.manifest.created),
        ended=None if state == "running" or last is None else seconds_of(last.ended),
        slowed_by=sources.snapshot.slowed_by if sources.at_work and sources.snapshot is not None else "",
        notices=shown,
    )


def _place(path: str) -> str:
    """Return a path, or several, as they may be shown: presigned URLs have their signature in the query."""
    return cut(", ".join(map(bare_url, path.split(", "))), _PATH)


def _words(sources: RunSources, last: SessionReport | None) -> str:
    if sources.at_work:
        holder = sources.found.supervisor
        who = "" if holder is None else f": process {holder.pid} on {one_line(holder.host)} since {holder.since}"
        return cut(f"at work{who}", _TEXT)
    problem = sources.found.run.problem
    if problem:
        return cut(f"{sources.state}: {one_line(problem)}", _TEXT)
    if last is None:
        return sources.state
    return words_of_end(last, sources.state) if sources.state == "finished" else _stopped(sources.state, last)


def _stopped(state: str, last: SessionReport) -> str:
    why = words_of_end(last, state)
    return why if why.startswith(state) else f"{state}: {why}"


def _next(sources: RunSources, totals: Totals) -> str | None:
    if sources.at_work:
        return None
    if sources.state != "finished":
        return "`rowmill run` goes on with it"
    return "`rowmill retry` asks again for the failed rows" if totals.failed else None


def _totals(sources: RunSources, totals: Totals) -> TotalFacts:
    counters, sessions = sources.counters, sources.sessions
    current = sources.current
    elapsed = sum(session.elapsed_s for session in sessions if session is not current)
    if current is not None:
        told = 0.0 if sources.snapshot is None else sources.snapshot.elapsed_s
        elapsed += max(told, current.elapsed_s)
    largest: dict[str, float] = {}
    for session in sessions:
        for name, size in session.rss_max_bytes.items():
            largest[name] = max(largest.get(name, 0.0), round(size / _MB, 1))
    return TotalFacts(
        rows=sources.rows,
        done=totals.rows,
        failed=totals.failed,
        elapsed_s=round(elapsed, 3),
        rows_per_s=round(counters.rows / elapsed, 2) if elapsed else 0.0,
        requests=counters.requests,
        retries=counters.retries,
        reasked=counters.reasked,
        prompt_tokens=totals.prompt_tokens,
        completion_tokens=totals.completion_tokens,
        cached=counters.cached,
        duplicates=counters.duplicates,
        packed=counters.packed,
        tokens_saved=counters.tokens_saved,
        deaths=sum(session.deaths for session in sessions),
        quarantined=sum(session.quarantined for session in sessions),
        billed_twice_max=sum(session.billed_twice_max for session in sessions),
        cpu_s=round(sum(session.cpu_s for session in sessions), 2),
        rss_max_mb=dict(list(largest.items())[:10]),
    )


def _cost(cost: Cost) -> CostFacts:
    lines = sorted(cost.lines, key=lambda line: (-(line.usd or 0.0), -line.spent.tokens))
    return CostFacts(
        usd=cost.usd,
        projected_usd=cost.projected_usd,
        max_usd=cost.max_usd,
        max_tokens=cost.max_tokens,
        max_requests=cost.max_requests,
        tokens=cost.tokens,
        requests=cost.requests,
        retries_usd=cost.retries_usd,
        lost_usd=cost.lost_usd,
        reserved_usd=cost.reserved_usd,
        cache_usd=cost.spared_usd,
        packs_usd=cost.packed_usd,
        batches_usd=cost.batch_usd,
        lines=[
            CostEntry(
                provider=cut(line.provider, _NAME),
                model=cut(line.model, _NAME),
                mode=line.mode,
                requests=line.spent.requests,
                prompt_tokens=line.spent.prompt_tokens,
                cached_tokens=line.spent.cached_tokens,
                completion_tokens=line.spent.completion_tokens,
                usd=line.usd,
            )
            for line in lines[:_LINES]
        ],
        more_lines=max(0, len(lines) - _LINES),
        unpriced=[cut(name, _NAME) for name in cost.unpriced[:_UNPRICED]],
    )


def _batch(each: Try) -> BatchFacts:
    over = each.phase in ("ended", "collected", "given_up")
    return BatchFacts(
        part=each.part,
        number=each.number,
        batch=None if each.batch_id is None else cut(each.batch_id, _NAME),
        status=cut(each.status or each.phase, _NAME),
        created=each.created_at,
        ended=each.since if over else None,
        requests=each.requests,
        rows=each.rows,
        answered=each.answered,
        failed=each.failed,
        left=each.left,
    )


def _session(sources: RunSources, session: SessionReport) -> SessionFacts:
    at_work = session is sources.current and sources.at_work
    state = state_of(session, at_work=at_work)
    return SessionFacts(
        id=cut(session.id, _NAME),
        started=seconds_of(session.started) or 0.0,
        ended=None if at_work else seconds_of(session.ended),
        mode=session.mode,
        state=state,
        words=words_of_end(session, state),
        exit_code=None if at_work else session.exit_code,
        elapsed_s=session.elapsed_s,
        rows=session.rows,
        rows_per_s=session.rows_per_s,
        requests=session.counters.requests,
        retries=session.counters.retries,
        workers=session.workers,
        deaths=session.deaths,
        cpu_s=session.cpu_s,
        notices=[cut(one_line(notice), _TEXT) for notice in session.notices[:_NOTICES]],
    )


def _nodes(place: int, session: SessionReport) -> Iterable[NodeFacts]:
    for node in session.nodes:
        yield NodeFacts(
            node=cut(node.node, _NAME),
            session=place,
            joined_s=node.joined_s,
            left_s=node.left_s,
            why=None if node.why is None else cut(one_line(node.why), _TEXT),
            workers=node.workers,
            rows=node.rows,
            cpu_s=node.cpu_s,
            carried_mb=node.carried_mb,
            sent_mb=node.sent_mb,
        )


def encoded(document: RunDocument) -> bytes:
    """Return the document as JSON; where texts would make it too long, fewer rows are in it from then on."""
    data = msgspec.json.encode(document)
    while _weight(data) > _MOST_BYTES and (document.replies or any(each.examples for each in document.failures)):
        document.replies = document.replies[: len(document.replies) // 2]
        for each in document.failures:
            each.examples = each.examples[: len(each.examples) // 2]
        data = msgspec.json.encode(document)
    return data


def _weight(data: bytes) -> int:
    """Return the bytes that it has in a page, where what could end an element is written as six characters."""
    return len(data) + 5 * sum(map(data.count, (b"<", b">", b"&")))
