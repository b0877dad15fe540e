"""Snapshots that several tests draw."""

import msgspec

from rowmill.core.counts import BatchView, Counters, Totals
from rowmill.core.reports import Cost, ProviderView, Snapshot, StepFigures, WorkerView

BUSY = Snapshot(
    elapsed_s=10.0,
    total_rows=60_000,
    totals=Totals(rows=12_345, failed=3, prompt_tokens=1_200_000, completion_tokens=400_000, requests=12_360),
    session_rows=12_345,
    rows_per_s=1_234.4,
    eta_s=38.2,
    in_flight=127,
    allowed=128,
    waiting=0,
    next_due_s=None,
    counters=Counters(requests=12_490, replies=12_360, retries=12, faults={"rate_limited": 4, "server_error": 11}),
    shards_sealed=24,
    shards_merged=20,
    workers=(
        WorkerView(number=0, pid=4242, state="working", in_flight=64, rss_bytes=45 * 2**20, cpu_share=0.93),
        WorkerView(number=1, pid=4243, state="working", in_flight=63, rss_bytes=44 * 2**20, cpu_share=1.0),
    ),
    deaths=0,
    draining=False,
)
STEPS = msgspec.structs.replace(
    BUSY,
    steps=tuple(
        StepFigures(
            name=f"step-{number}{'x' * (number % 4 * 15)}", rows=9_000, failed=12, left_out=4_000 * number,
            requests=9_000, prompt_tokens=0, completion_tokens=0,
        )
        for number in range(32)
    ),
)  # fmt: skip
LONG_WAIT = msgspec.structs.replace(BUSY, in_flight=0, waiting=12, next_due_s=598.0, rows_per_s=0.0, eta_s=None)
COUNTING = msgspec.structs.replace(BUSY, total_rows=None, eta_s=None)
HUGE = msgspec.structs.replace(
    BUSY,
    total_rows=1_000_000_000,
    totals=Totals(rows=999_999_999, failed=12_345_678, prompt_tokens=10**12, completion_tokens=10**11),
    rows_per_s=123_456.0,
    eta_s=400_000.0,
    in_flight=1_048_576,
    allowed=1_048_576,
    waiting=1_048_576,
    next_due_s=86_400.0,
    counters=Counters(requests=10**9, retries=10**8, faults=dict.fromkeys(("rate_limited", "timeout", "bad_reply"), 9)),
    deaths=17,
    draining=True,
)
MAIN = ProviderView(
    name="main",
    state="open",
    in_flight=100,
    allowed=128,
    requests=12_490,
    answered=12_260,
    requests_per_s=1000.0,
    tokens_per_s=None,
)
SPARE = ProviderView(
    name="spare",
    state="open",
    in_flight=27,
    allowed=64,
    requests=27,
    answered=0,
    requests_per_s=None,
    tokens_per_s=None,
)
HOLDING = msgspec.structs.replace(MAIN, state="holding", in_flight=0, held_s=598.0)
SINGLE = msgspec.structs.replace(BUSY, providers=(MAIN,))
SEVERAL = msgspec.structs.replace(BUSY, providers=(HOLDING, msgspec.structs.replace(SPARE, tokens_per_s=1500.0)))
HINDERED = msgspec.structs.replace(
    BUSY, providers=(HOLDING,), notices=("disk nearly full, paused", "memory is short: half of the slots")
)
COST = Cost(usd=1.234, tokens=1_620_000, requests=12_490, max_usd=5.0, projected_usd=3.1)
COSTLY = msgspec.structs.replace(BUSY, cost=COST)
UNPRICED = msgspec.structs.replace(
    BUSY, cost=Cost(tokens=1_620_000, requests=12_490, max_tokens=3e6, max_requests=50_000.0, unpriced=("m",))
)
BATCHES = (
    BatchView(3, 1, "batch_3", "validating", 50_000, 0, 0),
    BatchView(4, 1, "batch_4", "in_progress", 50_000, 41_234, 12),
    BatchView(5, 2, "batch_5", "in_progress", 20_000, 1_500, 0),
    BatchView(6, 1, "batch_6", "collecting", 50_000, 50_000, 0),
)
BATCHING = msgspec.structs.replace(
    BUSY,
    in_flight=0,
    rows_per_s=0.0,
    eta_s=None,
    counters=Counters(requests=12_345),
    workers=BUSY.workers[:1],
    cost=msgspec.structs.replace(COST, reserved_usd=0.8),
    batches=BATCHES,
    parts=(3, 7),
)
MANY_BATCHES = msgspec.structs.replace(
    BATCHING,
    batches=tuple(BatchView(part, 1, f"batch_{part}", "in_progress", 50_000, part, 1) for part in range(40)),
    parts=(3, 43),
)
