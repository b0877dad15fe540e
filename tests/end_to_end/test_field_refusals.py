"""What servers of the field answer to one row or to all, over real sockets: one bad row costs one row."""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.end_to_end.conftest import Place, Server
from tests.end_to_end.several import Answer, error
from tests.lives import WHOLE, combined

WALL = b"<!DOCTYPE html><html><head><title>Attention Required!</title></head><body>You have been blocked</body></html>"
VLLM = (
    b'{"object":"error","message":"This model\'s maximum context length is 4096 tokens. However, you requested 5000",'
    b'"type":"BadRequestError","param":null,"code":400}'
)
ROWS = 200


def openrouter(code: int, message: str, **metadata: Any) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "metadata": metadata}}).encode()


# What one row is answered, and the class that it fails with.
ALONE: dict[str, tuple[int, dict[str, str], bytes, str]] = {
    "403 moderation": (403, {}, openrouter(403, "Input was flagged", reasons=["violence"]), "content_filter"),
    "403 JSON": (403, {}, error("Forbidden", "forbidden"), "forbidden"),
    "403 HTML": (403, {"content-type": "text/html"}, WALL, "forbidden"),
    "404 image": (404, {}, openrouter(404, "No endpoints found that support image input"), "invalid_request"),
    "404": (404, {}, b"", "not_found"),
    "401": (401, {}, error("Unauthorized", "invalid_request_error"), "auth"),
    "402 size": (402, {}, openrouter(402, "Prompt tokens limit exceeded: 230799 > 91442."), "too_large"),
    "308": (308, {"location": "https://elsewhere.example/v1"}, b"", "not_found"),
    "429 never fits": (429, {}, error("Request too large: Limit 30000, Requested 45000.", "tokens"), "too_large"),
    "400 vLLM": (400, {}, VLLM, "context_length"),
    "200 context": (200, {}, openrouter(400, "maximum context length is 8192 tokens"), "context_length"),
}


# What could as well be said of the provider: all are tried alone by the proof of lives, here all together and these.
OF_PROVIDERS = ("403 JSON", "404", "401", "308")


def run_with_refused(place: Place, server: Callable[..., Server], refused: Mapping[int, str]) -> Server:
    """Run with some rows refused, each as its name says, and hold that this costs these rows alone."""
    witness = server(lambda arrival: ALONE[refused[arrival.row]][:3] if arrival.row in refused else None)
    place.configure(witness.url)
    place.write_rows(ROWS)
    done = place.run()
    assert done.code == 1, done.err
    expected = [(row, ALONE[name][3], ALONE[name][0]) for row, name in sorted(refused.items())]
    assert [(row["index"], row["class"], row["status"]) for row in place.failed] == expected
    assert sum(line["error"] is None for line in place.lines) == ROWS - len(refused)
    assert max(witness.counts[row] for row in refused) <= 4
    return witness


@pytest.mark.parametrize(("name", "bad"), combined(list(ALONE) if WHOLE else OF_PROVIDERS, [0, 77, ROWS - 1]))
def test_what_one_row_is_refused_for_costs_that_row(
    place: Place, server: Callable[..., Server], name: str, bad: int
) -> None:
    run_with_refused(place, server, {bad: name})


def test_rows_that_are_refused_each_for_something_else_cost_these_rows_once(
    place: Place, server: Callable[..., Server]
) -> None:
    rows = (0, ROWS - 1, *range(3, ROWS, 19))
    witness = run_with_refused(place, server, dict(zip(rows, ALONE, strict=False)))
    assert len(place.failed) == len(ALONE)
    before = len(witness.arrivals)
    assert place.run().code == 1, "finished: a resume asks for nothing"
    assert len(witness.arrivals) == before


@pytest.mark.timed
def test_400_blocked_rows_in_the_middle_are_400_failed_rows_in_seconds(
    place: Place, server: Callable[..., Server]
) -> None:
    witness = server(lambda arrival: (403, {}, WALL) if 100 <= arrival.row < 500 else None)
    place.configure(witness.url)
    place.write_rows(600)
    began = time.monotonic()
    done = place.run()
    assert done.code == 1, done.err
    assert [row["index"] for row in place.failed] == list(range(100, 500))
    assert len(witness.arrivals) <= 600 + 16
    assert time.monotonic() - began < 20


PARTIAL = {
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "a part of"},
            "finish_reason": "error",
            "error": {"code": 502, "message": "the model went away"},
        }
    ]
}


PASSING: list[tuple[Answer, str]] = [
    ((200, {}, openrouter(429, "Rate limit exceeded")), "rate_limited"),
    ((200, {}, openrouter(502, "Provider returned error")), "server_error"),
    ((200, {}, json.dumps(PARTIAL).encode()), "server_error"),
    ((200, {}, json.dumps(PARTIAL).replace('"a part of"', "null").encode()), "server_error"),
    ((401, {}, error("Unauthorized", "invalid_request_error")), "auth"),
    ((498, {}, error("at capacity", "server_error")), "overloaded"),
    ((520, {}, b"<html>520</html>"), "server_error"),
    ((400, {}, error("Failed to validate JSON", "invalid_request_error", "json_validate_failed")), "invalid_output"),
]


def test_what_passes_is_tried_again_and_is_never_an_answer(
    place: Place, server: Callable[..., Server], reference: Callable[[int], bytes]
) -> None:
    first = {5 + 4 * at: answer for at, (answer, _) in enumerate(PASSING)}
    witness = server(lambda arrival: first.get(arrival.row) if arrival.nth == 1 else None)
    place.configure(witness.url)
    place.write_rows(40)
    done = place.run()
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(40)
    assert witness.counts == {row: 2 if row in first else 1 for row in range(40)}
    assert place.report["sessions"][0]["counters"]["faults"] == Counter(fault for _, fault in PASSING)


@pytest.mark.timed
@pytest.mark.parametrize(("rows", "status"), combined([1, 5, 300], [404, 401, 403]))
def test_where_nobody_is_answered_the_run_stops_soon_and_fails_no_row(
    place: Place, server: Callable[..., Server], rows: int, status: int
) -> None:
    witness = server(lambda _: (status, {}, error("no", "invalid_request_error")))
    place.configure(witness.url)
    place.write_rows(rows)
    began = time.monotonic()
    done = place.run("--set", "workers.count=1")
    assert done.code == 4, done.err
    assert time.monotonic() - began < 8
    assert len(witness.arrivals) <= 16
    assert not place.output.exists()
    assert place.recorded() == set()
    assert place.report["totals"]["failed"] == 0


def test_the_same_refusal_of_all_rows_is_no_success_and_the_same_command_asks_again(
    place: Place, server: Callable[..., Server], reference: Callable[[int], bytes]
) -> None:
    """As a gateway without its database answers a wrong key, and a server a parameter that it does not know."""
    broken = True
    refusal: Answer = (400, {}, error("No connected db.", "no_db_connection"))
    witness = server(lambda _: refusal if broken else None)
    place.configure(witness.url)
    place.write_rows(10)
    done = place.run()
    assert done.code == 4, done.err
    assert not any(line.startswith("Done") for line in done.lines)
    why = "o row was answered: all 10 failed: invalid_request (HTTP 400, No connected db.)"
    assert f"N{why}" in done.lines
    assert place.report["sessions"][-1]["stopped_by"] == f"n{why}"
    assert {row["class"] for row in place.failed} == {"invalid_request"}, "no row is lost"
    assert "rowmill run config.toml" in done.lines[-1]

    broken = False
    done = place.run()
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(10)
    assert len(witness.arrivals) == 20


def test_several_workers_find_out_together(place: Place, server: Callable[..., Server]) -> None:
    witness = server(lambda _: (404, {}, error("no", "invalid_request_error")))
    place.configure(witness.url)
    place.write_rows(600)
    done = place.run("--set", "workers.count=3")
    assert done.code == 4, done.err
    assert len(witness.arrivals) <= 10
    assert place.report["totals"]["failed"] == 0
    assert sum("of base_url" in line or "api_key_env" in line for line in done.lines) <= 2, "advice, once and once more"
