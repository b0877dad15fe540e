"""Runs under a cap: the bill ends at it, whatever is killed, and the report says to the cent what was paid for what."""

import json
import signal
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from scripts.proving.runs import gone
from tests.end_to_end.conftest import Arrival, Done, Place, Server, Started, Witness, until
from tests.end_to_end.several import Answer, configure, stats_of, url_of

IN, CACHED, OUT = 1.0, 0.25, 4.0  # dollars a million tokens
PRICES = ("--set", f"prices.sim-small={{input={IN}, cached_input={CACHED}, output={OUT}}}")
ROWS = 1200
ROW_USD = (159 * IN + 19 * OUT) / 1e6  # of a row by `write_rows`


def usd(figures: Mapping[str, Any], *, times: float = 1.0) -> float:
    """Return what so many tokens cost."""
    return times * float(figures["prompt_tokens"] * IN + figures["completion_tokens"] * OUT) / 1e6


def capped(key: str, cap: float, workers: int = 3) -> list[str]:
    few = ("--set", f"workers.count={workers}", "--set", "workers.concurrency=8")
    return ["--set", f"budget.{key}={cap!r}", *few, *PRICES]


def spending(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place.run_dir / "spending.json").read_bytes())
    return found


def stopped(done: Done, key: str) -> None:
    """Hold that the command ended for this cap, and says how to go on."""
    assert (done.code, done.out) == (3, ""), done.err
    assert any(line.startswith(f"Stopped: budget.{key}: ") for line in done.lines), done.err
    assert f"raise budget.{key}, then run the same command again to resume" in done.err


def assert_paid_in_full(place: Place, witness: Witness, rows: int) -> None:
    """Hold that no row was asked for twice, and that the report says what the server has billed."""
    stats = witness.stats()
    assert (stats["requests"], stats["repeated_after_success"]) == (rows, 0)
    cost = place.report["cost"]
    assert (cost["usd"], cost["requests"]) == (pytest.approx(usd(stats)), rows)
    assert cost["tokens"] == stats["prompt_tokens"] + stats["completion_tokens"]
    assert cost["lost_usd"] == 0


def test_each_cap_ends_the_run_at_it_and_a_higher_one_goes_on(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    witness = simulator()
    place.configure(witness.url)
    place.write_rows(ROWS)

    stopped(place.run(*capped("max_requests", 300)), "max_requests")
    assert witness.stats()["requests"] == 300

    tokens = 600 * 178
    stopped(place.run(*capped("max_tokens", tokens)), "max_tokens")
    stats = witness.stats()
    assert 0.99 * tokens <= stats["prompt_tokens"] + stats["completion_tokens"] <= 1.01 * tokens

    dollars = 900 * ROW_USD
    stopped(place.run(*capped("max_usd", dollars)), "max_usd")
    assert 0.99 * dollars <= usd(witness.stats()) <= 1.01 * dollars
    assert place.report["cost"]["projected_usd"] == pytest.approx(ROWS * ROW_USD, rel=0.01)

    asked = witness.stats()["requests"]
    again = place.run(*capped("max_usd", dollars))
    stopped(again, "max_usd")
    assert witness.stats()["requests"] == asked, "what is used up is found out without a request"
    assert not place.output.exists()

    done = place.run(*capped("max_usd", 10.0))
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(ROWS)
    assert_paid_in_full(place, witness, ROWS)
    assert spending(place)["outstanding"] == spending(place)["lost"] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("key", "cap"), [("max_usd", 0.0001), ("max_tokens", 20)])
def test_a_cap_below_one_request_sends_none(
    place: Place, simulator: Callable[..., Witness], key: str, cap: float
) -> None:
    witness = simulator()
    place.configure(witness.url)
    place.write_rows(30)
    done = place.run(*capped(key, cap, workers=1))
    stopped(done, key)
    assert any("does not cover one request" in line for line in done.lines), done.err
    assert witness.stats()["requests"] == 0
    assert not place.output.exists()


def test_two_providers_share_the_cap_each_at_its_own_price(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    witness = simulator()
    prices = {"cheap/sim-small": {"input": IN, "output": OUT}, "dear/sim-small": {"input": 10 * IN, "output": 10 * OUT}}
    configure(
        place,
        [{"name": "cheap", "base_url": url_of(witness, "a")}, {"name": "dear", "base_url": url_of(witness, "b")}],
        **{f'prices."{name}"': price for name, price in prices.items()},
    )
    place.write_rows(800)
    cap = 400 * 5.5 * ROW_USD
    stopped(place.run("--set", f"budget.max_usd={cap!r}"), "max_usd")

    def billed() -> dict[str, float]:
        return {"cheap": usd(stats_of(witness, "a")), "dear": usd(stats_of(witness, "b"), times=10)}

    assert 0.99 * cap <= sum(billed().values()) <= 1.01 * cap
    done = place.run("--set", "budget.max_usd=1.0")
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(800)
    cost = place.report["cost"]
    assert {line["provider"]: line["usd"] for line in cost["lines"]} == pytest.approx(billed())
    assert {line["model"] for line in cost["lines"]} == {"sim-small"}
    assert cost["usd"] == pytest.approx(sum(billed().values()))


# Killed and interrupted


def under_way(place: Place, witness: Witness, requests: int, *arguments: str) -> Started:
    """Start a run, and return once it has sent so many requests; it comes no further before the witness goes on."""
    witness.hold(requests)
    started = place.start(*arguments)
    until(lambda: witness.stats()["requests"] >= requests, "requests")
    return started


def lost_usd(place: Place) -> float:
    return float(spending(place)["lost"][2])


def test_an_interrupted_run_has_spent_what_its_books_say_and_resumes_to_the_cap(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    witness = simulator(latency_ms=30)
    place.configure(witness.url)
    place.write_rows(600)
    cap = 400 * ROW_USD
    started = under_way(place, witness, 150, *capped("max_usd", cap))
    started.signal(signal.SIGINT)
    until(lambda: "SIGINT" in place.log, "the signal heard")
    witness.go_on()
    assert started.wait().code == 130
    (line,) = spending(place)["lines"]
    stats = witness.stats()
    assert line["spent"]["requests"] == stats["requests"]
    assert usd(line["spent"]) == pytest.approx(usd(stats))
    assert spending(place)["outstanding"] == spending(place)["lost"] == [0.0, 0.0, 0.0]
    stopped(place.run(*capped("max_usd", cap)), "max_usd")
    assert 0.99 * cap <= usd(witness.stats()) <= 1.01 * cap
    assert place.run(*capped("max_usd", 1.0)).code == 0
    assert place.output.read_bytes() == reference(600)
    assert_paid_in_full(place, witness, 600)


def test_what_a_killed_worker_had_in_hand_counts_as_spent_and_the_run_goes_on(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    witness = simulator(latency_ms=40)
    place.configure(witness.url)
    place.write_rows(800)
    cap = 600 * ROW_USD
    started = under_way(place, witness, 150, *capped("max_usd", cap))
    until(started.workers, "a worker that sends")[0].kill()
    witness.go_on()
    done = started.wait()
    stopped(done, "max_usd")
    assert "in the hands of workers that died" in done.err
    billed = usd(witness.stats())
    assert billed <= 1.01 * cap
    assert lost_usd(place) > 0
    assert usd(spending(place)["lines"][0]["spent"]) + lost_usd(place) == pytest.approx(cap, rel=0.01)
    assert spending(place)["outstanding"] == [0.0, 0.0, 0.0]
    assert place.report["cost"]["lost_usd"] == pytest.approx(lost_usd(place)), "counted once"
    assert place.run(*capped("max_usd", 1.0)).code == 0
    assert place.output.read_bytes() == reference(800)


def test_what_a_killed_session_had_handed_out_counts_as_spent_by_the_next(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    witness = simulator(latency_ms=40)
    place.configure(witness.url)
    place.write_rows(800)
    cap = 600 * ROW_USD
    started = under_way(place, witness, 150, *capped("max_usd", cap))
    orphans = started.children()
    started.signal(signal.SIGKILL)
    witness.go_on()
    started.wait()
    until(lambda: all(map(gone, orphans)), "the end of its workers")
    killed = spending(place)
    since = usd(witness.stats()) - sum(usd(line["spent"]) for line in killed["lines"])  # which its workers' boards tell
    assert killed["outstanding"][2] > since > 0
    stopped(place.run(*capped("max_usd", cap)), "max_usd")
    assert usd(witness.stats()) <= 1.01 * cap
    assert lost_usd(place) == pytest.approx(killed["outstanding"][2] - since), "and the rest is in the lines"
    assert usd(spending(place)["lines"][0]["spent"]) + lost_usd(place) == pytest.approx(cap, rel=0.01)
    assert place.run(*capped("max_usd", 1.0)).code == 0
    assert place.output.read_bytes() == reference(800)


# Failures, retries, savings


def test_what_failed_for_certain_costs_nothing_and_what_may_be_billed_stays_reserved(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    witness = simulator(faults={"429-ms": 0.02, "500": 0.05, "reset": 0.1})
    place.configure(witness.url)
    place.write_rows(600)
    cap = 400 * ROW_USD
    stopped(place.run(*capped("max_usd", cap), "--set", "retry.share=1"), "max_usd")
    stats, cost = witness.stats(), place.report["cost"]
    faults = stats["by_fault"]
    assert faults["429-ms"] > 0
    assert cost["lost"]["requests"] == faults["500"] + faults["reset"], "which may have been answered"
    assert cost["requests"] == stats["requests"]
    assert cost["usd"] + cost["lost_usd"] == pytest.approx(cap, rel=0.01)
    assert cost["usd"] < usd(stats) < cap


def test_second_asks_and_spared_requests_are_told_in_dollars(place: Place, simulator: Callable[..., Witness]) -> None:
    witness = simulator(content_faults={"wrong-type": 0.2})
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    configure(
        place,
        [{"name": "main", "base_url": witness.url}],
        task={"schema": schema},
        cache={"use": "run"},
        retry={"invalid_output": 9},
        prices={"sim-small": {"input": IN, "output": OUT}},
        budget={"max_usd": 1.0},
    )
    texts = [f"row {row % 200:06d}" for row in range(300)]
    place.write_lines(json.dumps({"id": row, "text": text}).encode() + b"\n" for row, text in enumerate(texts))
    done = place.run()
    assert done.code == 0, done.err
    (session,), cost = place.report["sessions"], place.report["cost"]
    assert session["counters"]["reasked"] > 10
    assert session["counters"]["duplicates"] == 100
    asked = {text: line["usage"] for text, line in zip(texts, place.lines, strict=True)}
    valid = sum(map(usd, asked.values()))
    assert cost["usd"] == pytest.approx(usd(witness.stats()))
    assert cost["retries_usd"] == pytest.approx(cost["usd"] - valid)
    assert cost["spared_usd"] == pytest.approx(sum(usd(line["usage"]) for line in place.lines) - valid)
    assert (cost["lost_usd"], cost["unpriced"]) == (0.0, [])


def test_cached_tokens_have_their_own_price_and_packs_say_what_they_saved(
    place: Place, server: Callable[..., Server], simulator: Callable[..., Witness]
) -> None:
    place.configure(server(told({"prompt_tokens": 100, "completion_tokens": 10, "cached": 80})).url)
    place.write_rows(60)
    assert place.run(*PRICES).code == 0
    (line,) = place.report["cost"]["lines"]
    spent = {"requests": 60, "prompt_tokens": 6000, "cached_tokens": 4800, "completion_tokens": 600}
    assert (line["spent"], line["usd"]) == (spent, pytest.approx((1200 * IN + 4800 * CACHED + 600 * OUT) / 1e6))

    place.configure(simulator().url)
    packed = ("--set", "output.path=packed.jsonl", "--set", "task.rows_per_request=10")
    schema = ("--set", "task.schema={type='object', properties={n={type='integer'}}, required=['n']}")
    assert place.run(*PRICES, *packed, *schema).code == 0
    report = json.loads((place.folder / "packed.jsonl.run" / "report.json").read_bytes())
    saved = report["sessions"][0]["counters"]["tokens_saved"]
    assert saved > 0
    assert report["cost"]["packed_usd"] == pytest.approx(saved * IN / 1e6)


def told(usage: dict[str, int] | None) -> Callable[[Arrival], Answer]:
    """Answer every request, with this usage or without any."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "done"}, "finish_reason": "stop"}
    reply: dict[str, Any] = {"model": "sim-small", "choices": [choice]}
    if usage is not None:
        details = {"cached_tokens": usage.pop("cached")}
        reply["usage"] = {**usage, "prompt_tokens_details": details}
    return lambda _arrival: (200, {}, json.dumps(reply).encode())


def test_a_server_that_tells_no_usage_is_taken_at_the_estimates_over_all_sessions(
    place: Place, server: Callable[..., Server]
) -> None:
    silent = server(told(None))
    place.configure(silent.url)
    place.write_rows(100)
    limited = ("--set", "budget.max_tokens=25000", "--set", "task.params.max_tokens=300")
    stopped(place.run(*limited), "max_tokens")
    asked = len(silent.arrivals)
    assert asked == pytest.approx(25_000 / 480, rel=0.1), "a prompt of 180 tokens, and as much as the reply may have"
    stopped(place.run(*limited), "max_tokens")
    assert len(silent.arrivals) == asked
    cost = place.report["cost"]
    assert (cost["tokens"], cost["lost"]["requests"]) == (pytest.approx(25_000, rel=0.05), 0)


def test_rows_that_name_their_models_are_priced_by_the_names_in_their_replies(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    witness = simulator()
    place.configure(witness.url)
    models = ("sim-small", "sim-large", "sim-unknown")
    place.write_lines(
        json.dumps({"id": row, "text": f"row {row:06d}", "m": models[row % 3]}).encode() + b"\n" for row in range(90)
    )
    named = ("--set", "task.per_row={model='m'}", "--set", "prices.sim-large={input=10.0, output=40.0}", *PRICES)
    before = place.files()
    refused = place.run(*named, "--set", "budget.max_usd=1")
    assert (refused.code, place.files()) == (2, before)
    assert "the rows name their own models" in refused.err
    done = place.run(*named, "--set", "budget.max_tokens=100000")
    assert done.code == 0, done.err
    cost = place.report["cost"]
    assert (cost["usd"], cost["unpriced"], cost["requests"]) == (None, ["sim-unknown"], 90)
    expected: dict[str, float | None] = dict.fromkeys(models[:2], 0.0)
    for line in place.lines:
        if line["model"] in expected:
            times = 10.0 if line["model"] == "sim-large" else 1.0
            expected[line["model"]] = (expected[line["model"]] or 0.0) + usd(line["usage"], times=times)
    expected["sim-unknown"] = None
    assert {line["model"]: line["usd"] for line in cost["lines"]} == pytest.approx(expected)


# What a budget is over


def test_a_budget_is_over_all_that_a_run_does_and_a_trial_is_a_run_of_its_own(
    place: Place, server: Callable[..., Server]
) -> None:
    healed = False

    def decide(arrival: Arrival) -> Answer | None:
        bad = arrival.row % 100 == 7 and not healed
        return (400, {}, b'{"error":{"message":"no"}}') if bad else None

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(200)
    limited = ("--set", "budget.max_requests=200")
    assert place.run(*limited).code == 1
    assert len(witness.arrivals) == 200
    whole, report = place.output.read_bytes(), place.report

    place.output.unlink()
    done = place.run(*limited)
    assert done.code == 1, done.err
    assert place.output.read_bytes() == whole, "what takes no request needs no budget"
    assert len(witness.arrivals) == 200

    healed = True
    stopped(place.retry(*limited), "max_requests")
    assert (len(witness.arrivals), place.output.read_bytes()) == (200, whole)
    assert place.report["totals"] == report["totals"]
    assert place.retry("--set", "budget.max_requests=202").code == 0
    assert len(witness.arrivals) == 202
    assert spending(place)["lines"][0]["spent"]["requests"] == 202

    trial = place.run("--limit", "20", "--set", "budget.max_requests=20")
    assert trial.code == 0, trial.err
    assert len(witness.arrivals) == 222
    assert spending(place)["lines"][0]["spent"]["requests"] == 202
