"""What strangers answer that no list of shapes had: many of them in one run, over real sockets."""

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.end_to_end.conftest import Arrival, Place, Server
from tests.end_to_end.several import Answer, error

USAGE = {"prompt_tokens": 20, "completion_tokens": 2, "total_tokens": 22}


def completion(text: str = "fine", finish: str = "stop", beside: dict[str, Any] | None = None, **more: Any) -> bytes:
    message = {"role": "assistant", "content": text}
    choices = [{"index": 0, "message": message, "finish_reason": finish, **(beside or {})}]
    return json.dumps({"object": "chat.completion", "model": "m", "choices": choices, "usage": USAGE, **more}).encode()


WITHOUT = {"object": "chat.completion", "model": "gemini", "usage": USAGE}
BLOCKED = {"index": 0, "finish_reason": "content_filter: PROHIBITED_CONTENT"}
FAILED = {"code": 502, "message": "upstream"}
OWN_SIZE = "This request of 45000 tokens is larger than your quota of 30000 tokens per minute"

# What a row is answered, always, and what becomes of it: its class of failure, or its finish reason.
ALWAYS: list[tuple[int, bytes, str | None]] = [
    (200, json.dumps({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {}}).encode(), "content_filter"),
    (200, json.dumps({**WITHOUT, "choices": []}).encode(), "empty_reply"),
    (200, json.dumps({**WITHOUT, "choices": None}).encode(), "empty_reply"),
    (200, json.dumps(WITHOUT).encode(), "empty_reply"),
    (200, json.dumps({**WITHOUT, "choices": [BLOCKED]}).encode(), "content_filter"),
    (402, b"", "payment_required"),
    (402, b"<html><h1>Payment Required</h1></html>", "payment_required"),
    (402, error("Payment Required", "billing"), "payment_required"),
    (429, error(OWN_SIZE, "rate_limit_exceeded"), "too_large"),
    (429, error("Too many tokens in request: 45000 > 30000", "tokens"), "too_large"),
    (429, error("Please reduce your message size and try again.", "tokens"), "too_large"),
    (200, completion(error=None), "stop"),
    (200, completion(error={}), "stop"),
    (200, completion(beside={"error": None}), "stop"),
    (200, gzip.compress(gzip.compress(completion("gr\u00fc\u00dfe"))), "stop"),  # as no header says
    (200, b")]}'\n" + completion(), "stop"),
    (200, completion()[:-1] + b", /* that is all */ }\0\0", "stop"),
]
# What a row is answered first: it is asked once more.
FIRST: list[tuple[int, bytes]] = [
    (200, completion(error=FAILED)),
    (200, completion(error="model crashed")),
    (200, completion(beside={"error": FAILED})),
    (200, completion("half of it", "ERROR")),
    (200, completion("half of it", "abort")),
    (200, json.dumps({**WITHOUT, "choices": None, "base_resp": {"status_code": 1002, "status_msg": "limit"}}).encode()),
    (423, b"locked"),
]
ROWS = 60


def test_what_no_list_has_costs_its_row_or_one_more_try(place: Place, server: Callable[..., Server]) -> None:
    def decide(arrival: Arrival) -> Answer | None:
        place_, which = divmod(arrival.row, 2)
        if which and place_ < len(ALWAYS):
            return ALWAYS[place_][0], {}, ALWAYS[place_][1]
        if not which and 8 <= place_ < 8 + len(FIRST) and arrival.nth == 1:
            return FIRST[place_ - 8][0], {}, FIRST[place_ - 8][1]
        return None

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(ROWS)
    done = place.run("--set", "retry.floor_per_s=100")
    assert done.code == 1, done.err
    lines = place.lines
    found = [line["error"]["class"] if line["error"] else line["finish_reason"] for line in lines]
    assert [found[2 * each + 1] for each in range(len(ALWAYS))] == [kind for _, _, kind in ALWAYS]
    assert lines[29]["output"] == "gr\u00fc\u00dfe"
    asked = [witness.counts[row] for row in range(ROWS)]
    again = [2 if kind == "empty_reply" else 1 for _, _, kind in ALWAYS]
    assert [min(asked[2 * each + 1], 2) for each in range(len(ALWAYS)) if not 5 <= each < 8] == again[:5] + again[8:]
    assert max(asked) <= 4
    assert [asked[row] for row in range(16, 16 + 2 * len(FIRST), 2)] == [2] * len(FIRST)
    failed = sum(line["error"] is not None for line in lines)
    assert failed == sum(kind not in ("stop", "content_filter") for _, _, kind in ALWAYS), "and no other"
    assert all(line["output"] not in ("fine", "half of it", None) for line in lines[16 : 16 + 2 * len(FIRST) : 2])
    assert "refused within every known limit" not in place.log, "a row's own size is no limit of others"


@pytest.mark.parametrize("first", [0, 20])
def test_a_model_that_rows_name_and_nobody_has_fails_them_wherever_they_stand(
    place: Place, server: Callable[..., Server], first: int
) -> None:
    def decide(arrival: Arrival) -> Answer | None:
        if json.loads(arrival.body)["model"] == "retired":
            return 404, {}, error("The model `retired` does not exist", "model_not_found")
        return None

    witness = server(decide)
    place.configure(witness.url)
    wrong = range(first, first + 30)
    rows = ({"text": f"row {row:06d}:", "which": "retired" if row in wrong else None} for row in range(60))
    place.write_lines(json.dumps(row).encode() + b"\n" for row in rows)
    done = place.run("--set", 'task.per_row={model="which"}', "--set", "input.id=which")
    assert done.code == 1, done.err
    assert [(row["index"], row["class"]) for row in place.failed] == [(row, "not_found") for row in wrong]
    assert sum(line["error"] is None for line in place.lines) == 30


def test_a_provider_that_wants_to_be_paid_by_row_after_row_is_closed_and_no_row_fails(
    place: Place, server: Callable[..., Server]
) -> None:
    witness = server(lambda arrival: (402, {}, b"") if arrival.row >= 50 else None)
    place.configure(witness.url)
    place.write_rows(200)
    done = place.run("--set", "workers.count=1")
    assert done.code == 4, done.err
    assert "payment_required" in done.err
    assert len(witness.arrivals) <= 50 + 40
    assert place.report["totals"]["failed"] == 0


def test_a_row_that_nobody_has_room_for_fails_within_its_attempts_and_no_limit_comes_of_it(
    place: Place, server: Callable[..., Server]
) -> None:
    refused = {7: 429, 40: 429, 90: 503}

    def decide(arrival: Arrival) -> Answer | None:
        if arrival.row in refused:
            return refused[arrival.row], {"retry-after": "0"}, error("Too many requests", "requests")
        return None

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(400)
    done = place.run("--set", "workers.count=1")
    assert done.code == 1, done.err
    found = {row["index"]: (row["class"], row["attempts"]) for row in place.failed}
    assert found == {7: ("rate_limited", 6), 40: ("rate_limited", 6), 90: ("overloaded", 6)}
    assert [witness.counts[row] for row in refused] == [6, 6, 6]
    assert "refused within every known limit" not in place.log
    assert place.report["sessions"][-1]["providers"]["main"]["limited"] == 12


BREAKS: list[Answer] = [
    (500, {}, error("CUDA error: device-side assert triggered", "server_error")),
    (200, {}, b'{"choices": [{"mess'),
    (200, {"content-type": "text/html"}, b"<html><title>Oops</title></html>"),
]


@pytest.mark.timed
def test_rows_that_always_break_the_server_fail_within_their_attempts_also_where_no_other_is_left(
    place: Place, server: Callable[..., Server]
) -> None:
    first = 175

    def decide(arrival: Arrival) -> Answer | None:
        return BREAKS[arrival.row % 3] if first <= arrival.row < first + 25 else None

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(200)
    done = place.start("--set", "retry.attempts=2").wait(30)
    assert done.code == 1, done.err
    kinds = ["server_error", "bad_reply", "bad_reply"]
    assert [(row["index"], row["class"]) for row in place.failed] == [
        (row, kinds[row % 3]) for row in range(first, first + 25)
    ]
    assert sum(line["error"] is None for line in place.lines) == 175
    assert place.report["sessions"][-1]["elapsed_s"] < 10


def test_an_error_without_a_word_beside_an_answer_is_none_and_nothing_is_asked_twice(
    place: Place, server: Callable[..., Server]
) -> None:
    said = [{"code": 0, "message": ""}, {"code": None, "message": None}, {"code": "", "param": None, "type": ""}]
    witness = server(lambda arrival: (200, {}, completion("fine", error=said[arrival.row % 3])))
    place.configure(witness.url)
    place.write_rows(6)
    done = place.run()
    assert done.code == 0, done.err
    assert [line["output"] for line in place.lines] == ["fine"] * 6
    assert len(witness.arrivals) == 6
