"""A run's figures for the tests of what becomes of them."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from rowmill.core.amounts import Spent
from rowmill.core.counts import BatchView, Counters, Totals
from rowmill.core.reports import (
    Cost,
    CostLine,
    DiskView,
    MachineView,
    ProviderView,
    RunReport,
    Snapshot,
    StepFigures,
    WorkerView,
)
from rowmill.metrics.meter import RunMeter
from rowmill.metrics.readings import MeteredProvider, MeteredRun

SUBJECT = MeteredRun(
    "run-1",
    "in.jsonl",
    (MeteredProvider("main", "openai", "m", "chat"), MeteredProvider("spare", "spare", "", "chat")),
)
VIEW = ProviderView(
    name="main", state="open", in_flight=3, allowed=8, requests=20, answered=15, requests_per_s=5.0, tokens_per_s=None,
    limited=1, prompt_tokens=150, completion_tokens=60,
)  # fmt: skip
LINE = CostLine(provider="main", model="m", mode="live", spent=Spent(15, 150, 10, 60), usd=0.25)
SNAPSHOT = Snapshot(
    elapsed_s=2.0,
    total_rows=100,
    totals=Totals(rows=30, failed=2, prompt_tokens=300, completion_tokens=100, requests=33),
    session_rows=14,
    rows_per_s=7.0,
    eta_s=10.0,
    in_flight=3,
    allowed=8,
    waiting=1,
    next_due_s=None,
    counters=Counters(rows=14, failed=1, requests=20, retries=2, faults={"timeout": 3}, cached=4),
    shards_sealed=1,
    shards_merged=0,
    workers=(WorkerView(0, 7, "working", 3, 50_000_000, 0.5, 12.0), WorkerView(300, 8, "draining", 0, 1, 0.0)),
    deaths=1,
    draining=False,
    providers=(VIEW, msgspec.structs.replace(VIEW, name="spare", state="holding", held_s=2.5)),
    cost=Cost(usd=0.25, lines=(LINE,), projected_usd=1.0, max_usd=5.0),
    slowed_by="the rate of main: 300 requests a minute",
    slowed_cause="rate",
    cpu_s=1.5,
    machine=MachineView(0.4, 1.0, (DiskView("run", 5_000, 1_000),)),
)
REPORT = RunReport(
    run="run-1", finished=True, input="in", output="out", errors=None, rows=100, sessions=[], cost=SNAPSHOT.cost,
    totals=Totals(rows=100, failed=4, requests=110), failures={"timeout": 3, "invalid_request": 1},
)  # fmt: skip
_WHOLE = {
    "lost_usd": 0.01,
    "spared_usd": 0.5,
    "packed_usd": 0.0,
    "batch_usd": 0.1,
    "max_tokens": 1e6,
    "max_requests": 99,
}
STEPS = (
    StepFigures(name="draft", rows=30, failed=2, left_out=0, requests=33, prompt_tokens=200, completion_tokens=60),
    StepFigures(name="judge", rows=28, failed=1, left_out=9, requests=28, prompt_tokens=100, completion_tokens=40),
)
BATCHES = msgspec.structs.replace(  # and all that can be known
    SNAPSHOT,
    steps=STEPS,
    parts=(1, 3),
    batches=(BatchView(2, 1, "b", "in_progress", 10, 4, 1), BatchView(3, 1, "c", "<what nobody knows>", 5, 0, 0)),
    providers=tuple(msgspec.structs.replace(view, tokens_per_s=100.0) for view in SNAPSHOT.providers),
    cost=None if SNAPSHOT.cost is None else msgspec.structs.replace(SNAPSHOT.cost, **_WHOLE),
)


@pytest.fixture
def meter() -> Callable[..., RunMeter]:
    """Make a meter that has begun a session and has had a look: `meter(rows=5)` changes the counters."""

    def make(mode: str = "live", **changed: Any) -> RunMeter:
        made = RunMeter(SUBJECT, lambda text: text.replace("secret", "[redacted]"), wall_clock=lambda: 1000.0)
        made.begin("s", mode)
        made.look(changed_counters(**changed))
        return made

    return make


def changed_counters(**changed: Any) -> Snapshot:
    counters = msgspec.structs.replace(SNAPSHOT.counters, **changed)
    return msgspec.structs.replace(SNAPSHOT, counters=counters)
