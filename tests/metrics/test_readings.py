"""Values are those of the last look, exactly; counters never fall, whatever sessions and servers do."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowmill.core.amounts import Spent
from rowmill.core.histograms import Distributions, counted
from rowmill.metrics import catalogue
from rowmill.metrics.catalogue import SECONDS, TOKENS, Family
from rowmill.metrics.meter import RunMeter
from rowmill.metrics.readings import MeteredProvider, MeteredRun, Readings, distribution
from tests.metrics.conftest import BATCHES, LINE, REPORT, SNAPSHOT, STEPS, changed_counters

Make = Callable[..., RunMeter]


def readings(meter: RunMeter) -> Readings:
    found = meter.readings()
    assert found is not None
    return found[1]


def values(meter: RunMeter, family: Family) -> dict[tuple[str, ...], float]:
    return readings(meter).scalars.get(family, {})


@given(st.lists(st.integers(0, 200_000_000), max_size=50))
def test_tokens_are_counted_exactly_at_every_bound(tokens: list[int]) -> None:
    found = distribution(counted(tokens), sum(tokens), TOKENS, 1)
    for place, bound in enumerate(TOKENS):
        assert sum(found.counts[: place + 1]) == sum(value <= bound for value in tokens)
    assert sum(found.counts) == len(tokens)


@given(st.lists(st.floats(0, 1000), max_size=50))
def test_times_are_counted_exactly_at_every_bound(seconds: list[float]) -> None:
    found = distribution(counted(int(each * 1000) for each in seconds), 0, SECONDS, 1000)
    for place, bound in enumerate(SECONDS):
        assert sum(found.counts[: place + 1]) == sum(int(value * 1000) < round(bound * 1000) for value in seconds)
    assert sum(found.counts) == len(seconds)


def test_each_figure_has_its_value_and_what_is_not_known_has_none(meter: Make) -> None:
    made = meter()
    assert values(made, catalogue.ROWS) == {("answered",): 13, ("failed",): 1}
    assert values(made, catalogue.SHARED) == {("cache",): 4, ("duplicate",): 0}
    assert values(made, catalogue.REQUESTS) == {("main",): 20, ("spare",): 20}
    assert values(made, catalogue.FAULTS) == {("timeout",): 3}
    assert values(made, catalogue.RUN_ROWS) == {("answered",): 28, ("failed",): 2}
    assert values(made, catalogue.RUN_COST) == {("main", "m", "live"): 0.25}
    assert values(made, catalogue.RUN_BILLED)["main", "m", "live", "cached_input"] == 10
    assert values(made, catalogue.LEASED_REQUESTS) == {("main",): 5.0, ("spare",): 5.0}
    assert values(made, catalogue.LEASED_TOKENS) == {}
    assert values(made, catalogue.BUDGET_USD) == {(): 5.0}
    assert values(made, catalogue.BUDGET_TOKENS) == values(made, catalogue.LOST) == {}
    assert values(made, catalogue.HELD) == {("main",): 0.0, ("spare",): 2.5}
    assert values(made, catalogue.STATE)["spare", "holding"] == 1
    assert values(made, catalogue.STATE)["spare", "open"] == 0
    assert values(made, catalogue.SLOWED) == {
        (cause,): cause == "rate" for cause in ("disk", "memory", "providers", "cpu", "rate", "retries", "concurrency")
    }
    assert values(made, catalogue.WORKERS) == {("starting",): 0, ("working",): 1, ("draining",): 1}
    assert values(made, catalogue.WORKER_LAG) == {("0",): 0.012}, "of 256 workers at most"
    assert values(made, catalogue.DISK_FREE) == {("run",): 5_000}
    assert values(made, catalogue.CPU)["workers",] == 1.5
    assert values(made, catalogue.BATCHES) == {}


def test_every_value_has_the_labels_that_its_metric_has(meter: Make) -> None:
    made = meter("batch")
    made.look(BATCHES)
    goes_on = readings(made)
    made.ended(REPORT, 3)
    over = readings(made)
    told = {*goes_on.scalars, *goes_on.histograms, *over.scalars}
    assert told == set(catalogue.FAMILIES)
    for found in (goes_on, over):
        for family, points in (found.scalars | found.histograms).items():
            assert {len(labels) for labels in points} == {len(family.labels)}, family.name


def test_in_the_end_the_run_is_as_its_report_says(meter: Make) -> None:
    made = meter()
    made.ended(REPORT, 1)
    assert values(made, catalogue.RUN_ROWS) == {("answered",): 96, ("failed",): 4}
    assert values(made, catalogue.RUN_FAILED) == {("timeout",): 3, ("invalid_request",): 1}
    assert values(made, catalogue.FINISHED) == values(made, catalogue.ENDED) == {(): 1}
    assert values(made, catalogue.EXIT_CODE) == {(): 1}
    assert values(made, catalogue.SPEED) == {(): 0}
    assert values(made, catalogue.REMAINING) == {}
    assert sum(values(made, catalogue.SLOWED).values()) == 0
    assert values(made, catalogue.ROWS)["failed",] == 1, "of this session"


def test_a_counter_goes_on_in_the_next_session_and_never_falls(meter: Make) -> None:
    made = meter(requests=20, rows=14)
    assert values(made, catalogue.ROWS)["answered",] == 13
    made.look(changed_counters(rows=12, faults={}))
    assert values(made, catalogue.ROWS)["answered",] == 13
    assert values(made, catalogue.FAULTS) == {("timeout",): 3}
    made.begin("s2", "live")
    assert values(made, catalogue.ROWS)["answered",] == 13, "until the next look"
    made.look(changed_counters(rows=3, failed=1, faults={"connection": 1}))
    assert values(made, catalogue.ROWS) == {("answered",): 15, ("failed",): 2}
    assert values(made, catalogue.FAULTS) == {("timeout",): 3, ("connection",): 1}
    assert values(made, catalogue.SESSION) == {("run-1", "s2", "live"): 1}


def test_models_that_a_server_makes_up_are_few(meter: Make) -> None:
    made = meter()
    lines = tuple(
        msgspec.structs.replace(LINE, model=f"m-{number}-secret", spent=Spent(1, 2, 0, 1)) for number in range(500)
    )
    assert SNAPSHOT.cost is not None
    made.look(msgspec.structs.replace(SNAPSHOT, cost=msgspec.structs.replace(SNAPSHOT.cost, lines=lines)))
    billed = values(made, catalogue.RUN_BILLED)
    models = {model for _, model, *_ in billed}
    assert len(models) == 21
    assert "m-0-[redacted]" in models
    assert sum(count for (*_, kind), count in billed.items() if kind == "input") == 1000
    assert billed["main", "other", "live", "input"] == 2 * 480


def test_tokens_of_batches_are_those_of_the_session(meter: Make) -> None:
    def batches(tokens: int) -> Any:
        assert SNAPSHOT.cost is not None
        line = msgspec.structs.replace(LINE, mode="batch", spent=Spent(9, tokens, 0, tokens // 2))
        none = tuple(msgspec.structs.replace(view, prompt_tokens=0, completion_tokens=0) for view in SNAPSHOT.providers)
        cost = msgspec.structs.replace(SNAPSHOT.cost, lines=(line,))
        return msgspec.structs.replace(BATCHES, cost=cost, providers=none)

    made = meter("batch")
    made.begin("s", "batch")
    made.look(batches(100))
    made.look(batches(160))
    assert values(made, catalogue.TOKENS_USED)["main", "input"] == 60 + 150, "beside those of the session before"
    assert values(made, catalogue.BATCHES)["other",] == 1
    assert values(made, catalogue.BATCHES)["in_progress",] == 1
    assert values(made, catalogue.BATCHES)["completed",] == 0
    assert values(made, catalogue.BATCH_REQUESTS) == {("completed",): 4, ("failed",): 1, ("open",): 10}
    assert values(made, catalogue.BATCH_PARTS) == {("collected",): 1, ("open",): 2}


def test_what_is_measured_is_told_by_provider_and_with_the_look_that_counts_it(meter: Make) -> None:
    made = meter()
    each = [Distributions(latency_ms={20: 3}, prompt_tokens={9: 3}, sums={"latency_ms": 61.5, "prompt_tokens": 27.0})]
    each.append(Distributions(latency_ms={30: 1}, sums={"latency_ms": 30.0}))
    made.measured(Distributions(slot_wait_ms={5: 2}, sums={"slot_wait_ms": 11.0}), each)
    assert sum(point.counts[-1] for point in readings(made).histograms[catalogue.DURATION].values()) == 0
    made.look(SNAPSHOT)
    durations = readings(made).histograms[catalogue.DURATION]
    main, spare = durations["main", "chat", "openai", "m"], durations["spare", "chat", "spare", ""]
    assert (sum(main.counts), main.total) == (3, 0.0615)
    assert (sum(spare.counts), spare.total) == (1, 0.03)
    usage = readings(made).histograms[catalogue.USAGE]
    assert usage["main", "chat", "openai", "m", "input"].total == 27.0
    assert readings(made).histograms[catalogue.SLOT_WAIT][()].total == 0.011


def test_each_of_several_steps_has_figures_of_its_own_and_rows_are_those_of_the_run(meter: Make) -> None:
    made = meter()
    assert values(made, catalogue.STEP_ROWS) == {}, "of a run of one"
    assert SNAPSHOT.cost is not None
    lines = [
        msgspec.structs.replace(LINE, step="draft", usd=usd, model=model) for usd, model in ((0.25, "m"), (1, "n"))
    ]
    lines.append(msgspec.structs.replace(LINE, step="judge", usd=None))
    cost = msgspec.structs.replace(SNAPSHOT.cost, lines=tuple(lines))
    made.look(msgspec.structs.replace(SNAPSHOT, steps=STEPS, cost=cost))
    assert values(made, catalogue.STEP_ROWS) == {
        ("draft", "answered"): 28,
        ("draft", "failed"): 2,
        ("draft", "left_out"): 0,
        ("judge", "answered"): 18,
        ("judge", "failed"): 1,
        ("judge", "left_out"): 9,
    }
    assert values(made, catalogue.STEP_REQUESTS) == {("draft",): 33, ("judge",): 28}
    assert values(made, catalogue.STEP_TOKENS)["judge", "output"] == 40
    assert values(made, catalogue.STEP_COST) == {("draft",): 1.25}, "where all prices are known"
    assert values(made, catalogue.RUN_COST)["main", "m", "live"] == 0.25, "of all steps that asked for it"
    assert values(made, catalogue.ROWS) == {("answered",): 13, ("failed",): 1}
    made.ended(msgspec.structs.replace(REPORT, steps=STEPS[1:]), 0)
    assert {step for step, _ in values(made, catalogue.STEP_ROWS)} == {"judge"}, "as the report says"


def test_what_two_steps_ask_alike_is_measured_together_and_what_they_ask_otherwise_apart() -> None:
    asked = MeteredProvider("main", "openai", "m", "chat")
    made = RunMeter(MeteredRun("r", "in", (asked, asked, asked._replace(model="n"))), str)
    made.begin("s", "live")
    each = [Distributions(latency_ms={20: count}, sums={"latency_ms": 20.0 * count}) for count in (3, 2, 1)]
    made.measured(Distributions(), each)
    made.look(SNAPSHOT)
    durations = readings(made).histograms[catalogue.DURATION]
    assert {model: (sum(found.counts), found.total) for (*_, model), found in durations.items()} == {
        "m": (5, 0.1),
        "n": (1, 0.02),
    }


def test_nothing_is_worked_out_twice(meter: Make) -> None:
    made = meter()
    assert made.readings() is made.readings()


@pytest.mark.parametrize("family", catalogue.FAMILIES, ids=lambda family: family.name)
def test_names_are_as_the_conventions_want_them(family: Family) -> None:
    name = family.prometheus
    assert name.startswith(("rowmill_", "gen_ai_client_"))
    assert name.isascii()
    assert name == name.lower()
    assert not name.endswith(("_total", "_count", "_sum", "_bucket", "_created"))
    assert family.kind != "counter" or "usd" not in name
    assert family.help.endswith(".")
