"""Batch mode by the real command: the same input and configuration as live, the same bytes, at the other price."""

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.end_to_end.batching import (
    QUICK,
    batches,
    done_as,
    figures,
    listed,
    nothing_twice,
    seen,
    summed,
    tries,
)
from tests.end_to_end.conftest import Place, Witness
from tests.end_to_end.several import configure, last_session, no_secret

ROWS = 120
SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["good", "bad"]}, "score": {"type": "number"}},
    "required": ["label", "score"],
    "additionalProperties": False,
}
PRICES = {"sim-small": {"input": 1.0, "output": 4.0, "batch_discount": 0.5}}

Simulate = Callable[..., Witness]
Reference = Callable[[int], bytes]


# The same bytes


def write_odd_rows(place: Place) -> None:
    """Write rows of which some are none, some lack a column, and some are refused."""
    lines = []
    for index in range(ROWS):
        row: dict[str, Any] = {"id": f"id-{index}", "text": f"row {index:06d}: ä {'z' * (index % 40)}", "cap": None}
        if index % 50 == 7:
            del row["text"]
        if index % 50 == 8:
            row["cap"] = 0  # a 400
        lines.append(b"no json\n" if index % 50 == 9 else json.dumps(row).encode() + b"\n")
    place.write_lines(lines)


def write_table(place: Place) -> None:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["id", "text", "price"])
    table.writerows([f"id-{index}", f'row {index:06d}\n"quoted"', index / 4] for index in range(ROWS))
    (place.folder / "in.csv").write_text(text.getvalue() + "too,few\n")


@pytest.mark.parametrize(
    ("task", "more", "simulated", "provider", "made"),
    [
        # A model of the provider's own, and parts by their size.
        ({"per_row": {"max_tokens": "cap"}}, {"batch": {"max_mb": 0.01}}, {}, {"model": "sim-own"}, None),
        ({"rows_per_request": 8}, {"batch": {"max_requests": 6}}, {"content_faults": {"wrong-id": 0.2}}, {}, None),
        (
            {"api": "embeddings", "prompt": "{text}", "rows_per_request": 4},
            {"batch": {"max_requests": 20}, "output": {"path": "MODE/", "errors": "MODE.errors.jsonl"}},
            {},
            {},
            2,
        ),
        (
            {"api": "responses"},
            {
                "input": {"path": "in.csv"},
                "output": {"path": "MODE.csv", "include": ["input"]},
                "batch": {"max_requests": 50},
            },
            {},
            {},
            3,
        ),
    ],
    ids=["chat", "packs", "embeddings", "responses"],
)
def test_the_output_is_that_of_live_mode(  # noqa: PLR0917 - what a case is made of
    place: Place,
    simulator: Simulate,
    task: dict[str, Any],
    more: dict[str, dict[str, Any]],
    simulated: dict[str, Any],
    provider: dict[str, Any],
    made: int | None,
) -> None:
    write_odd_rows(place)
    write_table(place)
    found: dict[str, Any] = {}
    for mode in ("live", "batch"):
        witness = simulator(batch_s=0.3, latency_ms=2, **simulated)
        sections: dict[str, dict[str, Any]] = json.loads(json.dumps(more).replace("MODE", mode))
        sections["task"] = {**task, "mode": mode}
        sections["output"] = {"path": f"{mode}.jsonl", **sections.get("output", {})}
        sections["batch"] = {**QUICK, **sections.get("batch", {})}
        sections["checkpoint"] = {"dir": f"{mode}.run"}
        configure(place, [{"name": "main", "base_url": witness.url, **provider}], **sections)
        done = place.run()
        assert (done.code, done.out, "Traceback" in done.err) == (1, "", False), done.err
        found[mode] = {
            name.replace(mode, "", 1): data
            for name, data in place.files().items()
            if name.startswith(mode) and not name.startswith(f"{mode}.run")
        }
        if mode == "batch":
            stats = witness.stats()
            assert (stats["requests"], stats["repeated_after_success"], stats["batches"]["same_try"]) == (0, 0, 0)
            assert stats["batches"]["created"] == made or (made is None and stats["batches"]["created"] > 2)
            assert {batch.status for batch in listed(witness)} == {"completed"}
    assert found["batch"] == found["live"]
    assert len(found["live"]) >= 2  # with the errors file


def test_replies_that_do_not_fit_the_schema_are_asked_again_in_the_next_batch(
    place: Place, simulator: Simulate
) -> None:
    place.write_rows(ROWS)
    lines: dict[str, list[dict[str, Any]]] = {}
    for mode, faults in (("live", {}), ("batch", {"wrong-type": 0.2, "extra-prose": 0.1})):
        witness = simulator(batch_s=0.3, latency_ms=2, content_faults=faults)
        configure(
            place,
            [{"name": "main", "base_url": witness.url}],
            task={"schema": SCHEMA, "mode": mode, "strict_json": True},
            output={"path": f"{mode}.jsonl", "include": ["meta"]},
            batch=QUICK,
            checkpoint={"dir": mode},
            retry={"invalid_output": 10},
        )
        done = place.run()
        assert done.code == 0, done.err
        lines[mode] = [json.loads(line) for line in (place.folder / f"{mode}.jsonl").read_bytes().splitlines()]
    totals = [batch.total for batch in listed(witness)]
    asked = [line["meta"]["requests"] for line in lines["batch"]]
    # Each batch has the rows that the ones before have not settled.
    assert totals == [sum(times >= number for times in asked) for number in range(1, max(asked) + 1)]
    assert 0 < totals[1] < ROWS
    for live, batch in zip(lines["live"], lines["batch"], strict=True):
        if batch.pop("meta")["requests"] == 1:
            del live["meta"]
            assert batch == live
        else:  # another question, for it shows what was wrong
            assert batch["output"]["label"] in ("good", "bad")
            assert set(batch["output"]) == {"label", "score"}
    report = json.loads((place.folder / "batch" / "report.json").read_bytes())
    counters = report["sessions"][0]["counters"]
    assert (counters["reasked"], counters["requests"]) == (sum(totals[1:]), sum(totals))


# What it says


def test_the_report_has_a_line_for_each_mode_and_what_batches_saved(
    place: Place, simulator: Simulate, reference: Reference
) -> None:
    witness = simulator(batch_s=0.3, latency_ms=5)
    witness.hold(16)
    configure(place, [{"name": "main", "base_url": witness.url}], prices=PRICES)
    place.write_rows(ROWS)
    begun = place.start("--set=workers.count=1")
    seen(lambda: len(place.recorded()) >= 10, "rows on disk")
    begun.signal(2)
    seen(lambda: "SIGINT" in place.log, "the signal heard")
    witness.go_on()
    assert begun.wait().code == 130
    live = witness.stats()
    place.run_dir.joinpath("run.log").unlink()
    done = place.run(*batches())

    done_as(place, done, reference(ROWS))
    told = figures(witness)
    cost = place.report["cost"]
    by_mode = {line["mode"]: line for line in cost["lines"]}
    for mode, billed, part in (("live", live, 1.0), ("batch", told, 0.5)):
        spent = by_mode[mode]["spent"]
        assert (spent["prompt_tokens"], spent["completion_tokens"]) == (
            billed["prompt_tokens"],
            billed["completion_tokens"],
        )
        expected = part * (billed["prompt_tokens"] * 1.0 + billed["completion_tokens"] * 4.0) / 1e6
        assert by_mode[mode]["usd"] == pytest.approx(expected)
    assert cost["usd"] == pytest.approx(by_mode["live"]["usd"] + by_mode["batch"]["usd"])
    assert cost["batch_usd"] == pytest.approx(by_mode["batch"]["usd"])  # saved as much as it cost
    assert told["requests"] + live["requests"] == ROWS
    assert [session["mode"] for session in place.report["sessions"]] == ["live", "batch"]
    assert last_session(place)["counters"]["requests"] == told["requests"]
    assert f"requests {told['requests']} in batches" in done.err
    assert "saved: batch $" in done.err


def test_failed_rows_are_retried_by_batches_and_a_kill_loses_none(
    place: Place, simulator: Simulate, reference: Reference
) -> None:
    witness = simulator(batch_s=1.0, batch_faults={"500": 0.3})
    place.configure(witness.url)
    place.write_rows(ROWS)
    options = batches(max_requests=50)
    assert place.run(*options, "--set=retry.attempts=1").code == 1
    failed = len(place.failed)
    before = figures(witness)
    assert (before["requests"], before["failed"]) == (ROWS, failed)

    retried = place.start(*options, command="retry")
    seen(lambda: figures(witness)["requests"] > ROWS, "a failed row is asked again")
    retried.kill_all()
    assert place.lines  # the output is what it was
    done = place.retry(*options, "--set=retry.attempts=12")

    done_as(place, done, reference(ROWS))
    told = nothing_twice(witness, ROWS)
    assert sum(t.requests for t in tries(place) if t.number == 2) == failed
    assert told["requests"] == sum(t.requests for t in tries(place))
    assert len(listed(witness)) == len(tries(place))


# What cannot be


def refused(place: Place, *arguments: str, code: int, says: tuple[str, ...]) -> None:
    """Hold that the command says in one line why it stops, and how it goes on."""
    done = place.run(*arguments)
    assert (done.code, done.out, "Traceback" in done.err) == (code, "", False), done.err
    lines = done.lines if code == 2 else [line for line in done.lines if line.startswith("stopping: ")]
    assert len(lines) == 1, done.err
    for text in says:
        assert text in lines[0]
    assert not place.output.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set=cache.use=run"], ("cache.use", '"off"')),
        (["--set=task.per_row.model=id"], ("task.mode", "task.per_row.model")),
        (["--set=task.mode=auto"], ("task.mode", "batch.deadline_s")),
        (["--set=batch.provider=nobody"], ("batch.provider", "'nobody'")),
    ],
)
def test_a_configuration_that_batches_cannot_have(place: Place, arguments: list[str], says: tuple[str, ...]) -> None:
    place.configure("http://127.0.0.1:9/v1")
    place.write_rows(10)
    refused(place, *batches(), *arguments, code=2, says=says)
    assert not place.run_dir.exists()


def test_keys_that_may_not_stop_the_run_and_are_in_no_file(
    place: Place, simulator: Simulate, reference: Reference
) -> None:
    witness = simulator(batch_s=0.3)
    place.configure(witness.url)
    place.write_rows(ROWS)
    options = [*batches(), "--set=provider.api_key_env=ROWMILL_TEST_KEY"]
    for key, says in (
        ("invalid-3f9a41c7e2b8d0", ("'main'", "Incorrect API key provided")),
        ("nofiles-3f9a41c7e2b8d0", ("'main'", "files and batches", "write permission", "Missing scopes: api.files.")),
    ):
        place.environ["ROWMILL_TEST_KEY"] = key
        refused(place, *options, code=4, says=says)
        assert figures(witness)["files"] == 0
    place.environ["ROWMILL_TEST_KEY"] = "goodone-3f9a41c7e2b8d0"
    done = place.run(*options)
    done_as(place, done, reference(ROWS))
    no_secret(place, done, "3f9a41c7e2b8d0")


def test_a_provider_without_a_batch_api_stops_the_run_and_live_mode_takes_it_over(
    place: Place, simulator: Simulate, reference: Reference
) -> None:
    witness = simulator(batches=False)
    place.configure(witness.url)
    place.write_rows(ROWS)
    refused(place, *batches(), code=4, says=("'main' has no Batch API", 'set task.mode = "live"'))
    done_as(place, place.run(), reference(ROWS))
    assert witness.stats()["requests"] == ROWS


def test_a_cap_below_one_row_and_one_that_ends_in_the_middle(
    place: Place, simulator: Simulate, reference: Reference
) -> None:
    witness = simulator(batch_s=0.3)
    place.configure(witness.url)
    place.write_rows(ROWS)
    below = ("budget.max_tokens", "below what one request costs", "raise it")
    refused(place, *batches(), "--set=budget.max_tokens=100", code=3, says=below)
    assert figures(witness)["files"] == 0
    refused(place, *batches(), "--set=budget.max_requests=70", code=3, says=("budget.max_requests", "raise it"))
    assert figures(witness)["requests"] == 70
    done_as(place, place.run(*batches(), "--set=budget.max_requests=120"), reference(ROWS))
    nothing_twice(witness, ROWS)
    assert summed(place, "requests") == ROWS
