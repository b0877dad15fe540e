"""A run of which something is told."""

from typing import Any

import msgspec

from rowmill.core import config as configuration
from rowmill.core.config import Config
from rowmill.core.counts import Counters, Totals
from rowmill.core.reports import Cost, ProviderView, RunReport, SessionReport, Snapshot
from rowmill.runs.notify.news import News, ToldRun, of_end

SUBJECT = ToldRun("run-1", "in.jsonl", "out.jsonl", "out.jsonl.run")
SNAPSHOT = Snapshot(
    elapsed_s=12.0,
    total_rows=1000,
    totals=Totals(rows=700, failed=2),
    session_rows=700,
    rows_per_s=10.0,
    eta_s=30.0,
    in_flight=1,
    allowed=1,
    waiting=0,
    next_due_s=None,
    counters=Counters(),
    shards_sealed=0,
    shards_merged=0,
    workers=(),
    deaths=0,
    draining=False,
)
SESSION = SessionReport(
    started="2026-01-01T00:00:00Z",
    ended="2026-01-01T00:12:34Z",
    exit_code=1,
    stopped_by=None,
    elapsed_s=754.4,
    rows=1000,
    rows_per_s=1.0,
    counters=Counters(),
    in_flight_max=1,
    allowed=1,
    workers=1,
    deaths=0,
    quarantined=0,
    billed_twice_max=0,
    cpu_s=1.0,
    rss_max_bytes={},
)
REPORT = RunReport(
    run="run-1",
    finished=True,
    input="in.jsonl",
    output="out.jsonl",
    errors="out.errors.jsonl",
    rows=1000,
    totals=Totals(rows=1000, failed=3),
    failures={"timeout": 3},
    cost=Cost(usd=1.234, tokens=5000, requests=1010),
    sessions=[SESSION],
)
STOPPED = msgspec.structs.replace(SESSION, exit_code=3, stopped_by="budget.max_usd: $1.00 is used up")
UNFINISHED = msgspec.structs.replace(REPORT, finished=False, totals=Totals(rows=812, failed=3), errors=None)
NEWS: News = of_end(SUBJECT, REPORT, SESSION)


def provider(name: str, state: str) -> ProviderView:
    return ProviderView(
        name=name, state=state, in_flight=0, allowed=1, requests=1, answered=1, requests_per_s=None, tokens_per_s=None
    )


def at(seconds: float, **of: Any) -> Snapshot:
    """Return how the run stands then; providers by name and state."""
    providers = tuple(provider(name, state) for name, state in of.pop("providers", {}).items())
    return msgspec.structs.replace(SNAPSHOT, elapsed_s=seconds, providers=providers, **of)


def config_with(**notify: Any) -> Config:
    tree: dict[str, Any] = {
        "input": {"path": "in.jsonl"},
        "task": {"model": "m", "prompt": "{text}"},
        "output": {"path": "out.jsonl"},
        "notify": notify,
    }
    return configuration.parse(tree, "test")
