"""A run without trouble: what is in the output, the report, stdout and stderr, and how soon."""

import json
import time
from collections.abc import Callable

import pytest

from rowmill.simulator.replies import digest
from tests.end_to_end.conftest import Place, Server, Witness, prompt_of


def test_every_row_has_its_own_reply_in_its_own_line(place: Place, simulator: Callable[..., Witness]) -> None:
    witness = simulator(latency_ms=20, latency_sigma=1.0)
    place.configure(witness.url)
    place.write_rows(1000)
    done = place.run()
    assert (done.code, done.out) == (0, ""), done.err
    for index, line in enumerate(place.lines):
        prompt = prompt_of(index)
        assert list(line) == ["index", "id", "output", "error", "finish_reason", "model", "usage"]
        assert (line["index"], line["id"]) == (index, f"id-{index}")
        assert line["output"].startswith(f"In short: row {index:06d}:")
        assert line["output"].endswith(f" [{digest(prompt)}]")
        assert (line["error"], line["finish_reason"], line["model"]) == (None, "stop", "sim-small")
        assert line["usage"]["prompt_tokens"] == len(prompt) // 4
    assert place.output.read_bytes().count(b"\n") == 1000
    assert not place.errors.exists()
    stats = witness.stats()
    assert (stats["requests"], stats["duplicates"]) == (1000, 0)
    assert stats["in_flight_max"] <= 32

    report = place.report
    (session,) = report.pop("sessions")
    run, cost = report.pop("run"), report.pop("cost")
    assert run in place.log
    assert report == {
        "finished": True,
        "input": "in.jsonl",
        "output": "out.jsonl",
        "errors": None,
        "rows": 1000,
        "totals": {
            "rows": 1000,
            "failed": 0,
            "prompt_tokens": stats["prompt_tokens"],
            "completion_tokens": stats["completion_tokens"],
            "requests": 1000,
        },
        "failures": {},
    }
    spent = {"cached_tokens": 0, **{name: stats[name] for name in ("requests", "prompt_tokens", "completion_tokens")}}
    assert cost["lines"] == [{"provider": "main", "model": "sim-small", "mode": "live", "spent": spent, "usd": None}]
    assert (cost["usd"], cost["unpriced"]) == (None, ["sim-small"])
    assert (session["exit_code"], session["stopped_by"], session["rows"]) == (0, None, 1000)
    assert (session["workers"], session["allowed"], session["deaths"]) == (2, 32, 0)
    assert (session["billed_twice_max"], session["quarantined"]) == (0, 0)
    assert session["counters"]["requests"] == session["counters"]["replies"] == 1000
    assert 0 < session["in_flight_max"] <= 32
    assert session["rss_max_bytes"].keys() == {"supervisor", "worker"}
    assert all(10 << 20 < size < 500 << 20 for size in session["rss_max_bytes"].values())
    assert session["cpu_s"] > 0
    figures = session["providers"]["main"]
    assert session["providers"] == {"main": figures}
    assert (figures["state"], figures["requests"], figures["answered"]) == ("open", 1000, 1000)
    assert (figures["limited"], figures["failed"], figures["retries"], figures["opened"]) == (0, 0, 0, 0)
    assert (figures["prompt_tokens"], figures["completion_tokens"]) == (
        stats["prompt_tokens"],
        stats["completion_tokens"],
    )
    assert (figures["requests_per_minute"], figures["tokens_per_minute"]) == (None, None)

    # The same command again changes nothing and asks for nothing.
    before = place.files()
    again = place.run()
    assert (again.code, again.out, len(again.lines)) == (0, "", 1)
    assert "finished" in again.err
    assert {name for name, data in place.files().items() if data != before.get(name)} == {"out.jsonl.run/lock"}
    assert witness.stats()["requests"] == 1000

    # A lost output is written anew out of the run directory, and asks for nothing either.
    whole = place.output.read_bytes()
    place.output.unlink()
    assert place.run().code == 0
    assert place.output.read_bytes() == whole
    assert witness.stats()["requests"] == 1000


def test_a_pipe_gets_plain_lines(place: Place, simulator: Callable[..., Witness]) -> None:
    place.configure(simulator().url)
    place.write_rows(200)
    done = place.run()
    assert (done.code, done.out) == (0, "")
    assert "\x1b" not in done.err
    assert any(line.startswith("rows ") for line in done.lines)
    assert any(line.startswith("Done: 200 rows") for line in done.lines)


def test_failed_rows_are_lines_too_and_are_listed(place: Place, server: Callable[..., Server]) -> None:
    refused = {3, 150, 299}

    def decide(arrival: object) -> tuple[int, dict[str, str], bytes] | None:
        row = arrival.row  # type: ignore[attr-defined]  # an Arrival
        if row not in refused:
            return None
        return 400, {}, b'{"error":{"message":"no such thing","type":"invalid_request_error","code":"bad_value"}}'

    place.configure(server(decide).url)
    place.write_rows(300)
    done = place.run("--set", "output.include=['input', 'meta']")
    assert done.code == 1, done.err
    lines = place.lines
    assert [line["index"] for line in lines] == list(range(300))
    assert {line["index"] for line in lines if line["output"] is None} == refused
    error = {"class": "invalid_request", "code": "bad_value", "status": 400, "message": "no such thing"}
    assert [lines[row]["error"] for row in sorted(refused)] == [error] * 3
    assert place.failed == [{"index": row, "id": f"id-{row}", **error, "attempts": 1} for row in sorted(refused)]
    assert (place.report["totals"]["failed"], place.report["failures"]) == (3, {"invalid_request": 3})
    assert place.report["errors"] == "out.errors.jsonl"
    assert [line["input"] for line in lines] == [json.loads(line) for line in place.input.read_bytes().splitlines()]
    assert lines[5]["meta"].keys() == {"provider", "attempts", "requests", "ms"}


def test_the_sdk_transport_writes_the_same_bytes(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    place.configure(simulator(faults={"500": 0.01, "truncated": 0.01, "reset": 0.01}).url)
    place.write_rows(300)
    done = place.run("--set", "client.transport=sdk")
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(300)


@pytest.mark.alone
def test_ten_rows_take_less_than_two_and_a_half_seconds(place: Place, simulator: Callable[..., Witness]) -> None:
    place.configure(simulator().url)
    place.write_rows(10)
    began = time.monotonic()
    done = place.run()
    took = time.monotonic() - began
    print(f"ten rows: {took:.2f} s from command to exit")  # noqa: T201 - shown by -s and where the test fails
    assert done.code == 0, done.err
    assert took < 2.5
