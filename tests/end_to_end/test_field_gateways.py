"""What gateways answer who have a status, a member or a form of time of their own: one run, over real sockets."""

import json
import time
from collections.abc import Callable
from typing import Any

from tests.end_to_end.conftest import Arrival, Place, Server
from tests.end_to_end.several import Answer


def _json(status: int, body: Any, **headers: str) -> Answer:
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(body).encode()


# What a row is answered first, and is asked once more for: a lack of room, whatever it is called.
FIRST: list[Answer] = [
    _json(400, {"__type": "com.amazon.coral.service#ThrottlingException", "message": "Slower."}),
    _json(400, {"message": "Slower."}, x_amzn_errortype="ThrottlingException:http://internal.amazon.com/coral/"),
    _json(403, {"error": {"code": 403, "message": "used up", "errors": [{"reason": "userRateLimitExceeded"}]}}),
    _json(403, {"message": "You have exceeded a secondary rate limit. Please wait before you try again."}),
    _json(200, {"code": "1302", "msg": "Rate limit reached for requests", "success": False}),
    _json(200, {"status": "error", "message": "server busy"}),
    _json(200, {"error": True, "message": "the model is overloaded"}),
    _json(200, {"errors": ["Too many requests"]}),
]
# What a row is answered always, the class of its failure, and words that stand in its message.
ALWAYS: list[tuple[Answer, str, str]] = [
    (_json(410, {"error": "The requested model is deprecated"}), "not_found", "deprecated"),
    ((451, {"content-type": "text/html"}, b"<h1>For legal reasons</h1>"), "forbidden", "For legal reasons"),
    (
        _json(400, {"success": False, "errors": [{"message": "9000 exceeded this model context window limit (8192)"}]}),
        "context_length",
        "9000 exceeded",
    ),
    (_json(200, {"error_code": 17, "error_msg": "what is this?"}), "bad_reply", "what is this?"),
    (_json(200, {"detail": "Not authenticated"}), "bad_reply", "Not authenticated"),
]
ROWS = 40


def test_what_a_gateway_calls_otherwise_is_known_all_the_same(place: Place, server: Callable[..., Server]) -> None:
    def decide(arrival: Arrival) -> Answer | None:
        number, other = divmod(arrival.row, 2)
        if not other and number < len(FIRST):
            return FIRST[number] if arrival.nth == 1 else None
        return ALWAYS[number][0] if other and number < len(ALWAYS) else None

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(ROWS)
    done = place.run("--set", "retry.floor_per_s=100", "--set", "retry.attempts=2")
    assert done.code == 1, done.err
    lines = place.lines
    assert [line["index"] for line in lines if line["error"]] == [1 + 2 * each for each in range(len(ALWAYS))]
    for line, (_, kind, words) in zip((line for line in lines if line["error"]), ALWAYS, strict=True):
        assert line["error"]["class"] == kind
        assert words in line["error"]["message"]
    assert [witness.counts[2 * each] for each in range(len(FIRST))] == [2] * len(FIRST)


def test_a_wait_that_is_named_as_a_time_is_waited_for_and_no_longer(
    place: Place, server: Callable[..., Server]
) -> None:
    due: list[float] = []

    def decide(_: Arrival) -> Answer | None:
        due.append(time.time() + 1) if not due else None
        if time.time() < due[0]:
            return _json(503, {"message": "x"}, retry_after=f"{due[0] * 1000:.0f}")
        return None

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(20)
    done = place.start("--set", "workers.count=1").wait(30)
    assert done.code == 0, done.err
    assert len(place.lines) == 20
