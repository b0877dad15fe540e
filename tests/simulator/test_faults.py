"""Every fault of the catalogue as it looks on a real socket, and which request gets which."""

import time
from collections import Counter
from email.utils import parsedate_to_datetime
from random import Random
from typing import TYPE_CHECKING

import pytest
import uvloop

from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator.faults import CATALOGUE, ContentPlan, FaultPlan, named
from rowmill.simulator.server import running

if TYPE_CHECKING:
    from tests.simulator.conftest import Answer, Ask

BODY = b'{"model":"sim-small","messages":[{"role":"user","content":"What is a row?"}]}'


def _one(ask: "Ask", fault: str) -> "Answer":
    """Answer to the first request of a server whose script starts with `fault`; the second must be fine again."""

    async def exchange() -> "Answer":
        async with running(SimulatorSettings(latency_ms=0, script=(fault,))) as port:
            answer = await ask(port, body=BODY)
            assert (await ask(port, body=BODY)).status == 200
            figures = (await ask(port, "/stats")).json["total"]
        assert figures["by_fault"] == ({} if fault == "ok" else {fault: 1})
        assert figures["in_flight"] == 0
        assert figures["repeated_after_success"] == (1 if CATALOGUE[fault].valid else 0)
        billed_per_request = figures["prompt_tokens"] / 3
        assert billed_per_request == (2 if CATALOGUE[fault].produced else 1)
        return answer

    return uvloop.run(exchange())


@pytest.fixture
def whole(ask: "Ask") -> bytes:
    return _one(ask, "ok").body


@pytest.mark.parametrize(
    ("fault", "status", "kind", "code"),
    [
        ("429", 429, "requests", "rate_limit_exceeded"),
        ("429-ms", 429, "requests", "rate_limit_exceeded"),
        ("429-date", 429, "requests", "rate_limit_exceeded"),
        ("429-long", 429, "requests", "rate_limit_exceeded"),
        ("429-bare", 429, "requests", "rate_limit_exceeded"),
        ("429-quota", 429, "insufficient_quota", "insufficient_quota"),
        ("slow_down", 429, "requests", "slow_down"),
        ("401", 401, "invalid_request_error", "invalid_api_key"),
        ("404", 404, "invalid_request_error", "model_not_found"),
        ("400", 400, "invalid_request_error", "invalid_value"),
        ("500", 500, "server_error", None),
        ("503", 503, "server_error", "overloaded"),
        ("529", 529, "overloaded_error", None),
    ],
)
def test_an_error_has_its_status_and_openais_body(
    ask: "Ask", fault: str, status: int, kind: str, code: str | None
) -> None:
    answer = _one(ask, fault)
    assert (answer.status, answer.error["type"], answer.error["code"]) == (status, kind, code)
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("fault", "headers"),
    [
        ("429", {"retry-after": "1"}),
        ("429-ms", {"retry-after-ms": "200"}),
        ("429-long", {"retry-after": "600"}),
        ("429-bare", {}),
        ("429-quota", {}),
        ("slow_down", {"retry-after": "1"}),
    ],
)
def test_a_rate_limit_says_when_to_come_back_in_its_own_form(ask: "Ask", fault: str, headers: dict[str, str]) -> None:
    got = _one(ask, fault).headers
    assert {name: value for name, value in got.items() if name.startswith("retry-after")} == headers


def test_a_date_to_come_back_at_is_one_to_two_seconds_ahead(ask: "Ask") -> None:
    before = time.time()
    told = parsedate_to_datetime(_one(ask, "429-date").headers["retry-after"]).timestamp()
    assert before + 1 <= told <= time.time() + 2


def test_a_reset_ends_the_connection_before_any_byte(ask: "Ask") -> None:
    answer = _one(ask, "reset")
    assert (answer.was_reset, answer.status, answer.body) == (True, None, b"")


def test_a_reset_in_the_body_delivers_the_first_half_of_what_was_announced(ask: "Ask", whole: bytes) -> None:
    answer = _one(ask, "reset-body")
    assert (answer.was_reset, answer.status) == (True, 200)
    assert int(answer.headers["content-length"]) == len(whole)
    assert answer.body == whole[: len(whole) // 2]


def test_a_truncated_reply_is_valid_http_around_half_a_json(ask: "Ask", whole: bytes) -> None:
    answer = _one(ask, "truncated")
    assert (answer.was_reset, answer.status) == (False, 200)
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert answer.body == whole[: len(whole) // 2]


def test_an_empty_reply_is_a_200_of_no_bytes(ask: "Ask") -> None:
    answer = _one(ask, "empty")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")


@pytest.mark.parametrize(("fault", "status"), [("html", 200), ("502", 502)])
def test_a_gateways_page_is_html(ask: "Ask", fault: str, status: int) -> None:
    answer = _one(ask, fault)
    assert (answer.status, answer.headers["content-type"]) == (status, "text/html")
    assert b"<" in answer.body


def test_an_array_of_errors_is_what_gemini_sends(ask: "Ask") -> None:
    answer = _one(ask, "array")
    assert answer.status == 400
    assert answer.json[0]["error"]["message"]


def test_bad_limit_headers_come_with_a_good_reply(ask: "Ask", whole: bytes) -> None:
    answer = _one(ask, "bad-headers")
    assert (answer.status, answer.body) == (200, whole)
    assert answer.headers["x-ratelimit-remaining-requests"] == "-7"
    assert answer.headers["x-ratelimit-reset-requests"] == "tomorrow"


def test_huge_limit_headers_come_with_a_good_reply(ask: "Ask", whole: bytes) -> None:
    answer = _one(ask, "huge-headers")
    assert (answer.status, answer.body) == (200, whole)
    assert len(answer.headers["x-ratelimit-limit-requests"]) == 400
    assert answer.headers["x-ratelimit-limit-tokens"] == "-60000"


def test_a_rising_rate_limit_asks_for_more_each_time_until_one_is_answered(ask: "Ask") -> None:
    async def exchange() -> list[str | None]:
        script = ("429-rising", "429-rising", "429-rising", "ok", "429-rising")
        async with running(SimulatorSettings(latency_ms=0, script=script)) as port:
            return [(await ask(port, body=BODY)).headers.get("retry-after-ms") for _ in script]

    assert uvloop.run(exchange()) == ["200", "400", "600", None, "200"]


def test_a_hung_request_is_reset_when_its_time_is_over(ask: "Ask") -> None:
    async def exchange() -> "Answer":
        async with running(SimulatorSettings(script=("hang",), hang_s=0.05)) as port:
            return await ask(port, body=BODY)

    answer = uvloop.run(exchange())
    assert (answer.was_reset, answer.status) == (True, None)


def test_a_drip_delivers_the_whole_reply_byte_by_byte(
    ask: "Ask", whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowmill.simulator.exchange.DRIP_S", 0.0002)
    answer = _one(ask, "drip")
    assert (answer.status, answer.body) == (200, whole)


def test_the_script_is_used_up_in_order_and_then_the_shares_apply() -> None:
    settings = SimulatorSettings(script=("500", "ok", "reset"), faults={"503": 1.0})
    plan = FaultPlan(settings, Random(0))
    assert [plan.next(0).name for _ in range(5)] == ["500", "ok", "reset", "503", "503"]


def test_an_outage_goes_before_all_and_uses_up_nothing() -> None:
    settings = SimulatorSettings(script=("500", "reset"), faults={"503": 0.5})
    plan, undisturbed = FaultPlan(settings, Random(0)), FaultPlan(settings, Random(0))
    plan.begin_outage(named("401"), ends=10.0)
    assert {plan.next(now).name for now in (0, 5, 9.9)} == {"401"}
    assert [plan.next(10).name for _ in range(50)] == [undisturbed.next(10).name for _ in range(50)]
    plan.begin_outage(named("hang"), ends=float("inf"))
    assert plan.next(1e9).name == "hang"
    plan.end_outage()
    assert plan.next(1e9).name == undisturbed.next(1e9).name


def test_shares_are_kept_and_repeat_with_the_same_seed() -> None:
    settings = SimulatorSettings(faults={"500": 0.1, "429": 0.05, "hang": 0.0})
    plan, same = FaultPlan(settings, Random("a")), FaultPlan(settings, Random("a"))
    drawn = [plan.next(0).name for _ in range(20_000)]
    assert drawn == [same.next(0).name for _ in range(20_000)]
    counts = Counter(drawn)
    assert counts["500"] == pytest.approx(2000, rel=0.1)
    assert counts["429"] == pytest.approx(1000, rel=0.15)
    assert counts["hang"] == 0


@pytest.mark.parametrize(("wrong", "right"), [("429-msec", "429-ms"), ("resetbody", "reset-body"), ("504", "50")])
def test_an_unknown_name_is_refused_with_the_nearest_right_one(wrong: str, right: str) -> None:
    with pytest.raises(ValueError, match=f"unknown fault '{wrong}'; did you mean '{right}"):
        named(wrong)


@pytest.mark.parametrize(
    ("shares", "text"),
    [({"500": 1.2}, "from 0 to 1"), ({"500": -0.1}, "from 0 to 1"), ({"500": 0.7, "503": 0.4}, "above 1")],
)
def test_shares_that_cannot_be_are_refused(shares: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        FaultPlan(SimulatorSettings(faults=shares), Random(0))


def test_content_faults_are_drawn_by_their_shares_and_repeat_with_the_seed() -> None:
    settings = SimulatorSettings(content_faults={"cut": 0.1, "missing": 0.05})
    plan, same = ContentPlan(settings, Random("a")), ContentPlan(settings, Random("a"))
    drawn = [plan.next().name for _ in range(20_000)]
    assert drawn == [same.next().name for _ in range(20_000)]
    assert plan.spot() == same.spot() != plan.spot()
    counts = Counter(drawn)
    assert counts["cut"] == pytest.approx(2000, rel=0.1)
    assert counts["missing"] == pytest.approx(1000, rel=0.15)


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        ({"500": 0.1}, "'500' is no content fault; these are: wrong-type"),
        ({"cut": 2}, "from 0 to 1"),
        ({"cot": 0}, "cut"),
    ],
)
def test_content_faults_that_cannot_be_are_refused(shares: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ContentPlan(SimulatorSettings(content_faults=shares), Random(0))
