"""Every status and error body that servers are known to send, and what each means for the row and the run."""

import email.utils
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rowmill.core.config.hidden import encoded
from rowmill.core.wire import Failure, Reply
from rowmill.transport.faults import TABLE, classify, dead_end, inside, redacted, retry_after

DAY_S = 86_400.0


def reply(status: int, body: bytes | Any = b"", headers: Mapping[str, str] | None = None) -> Reply:
    """Return a reply; a body that is no bytes is sent as JSON. Headers are found in any case, as on the wire."""
    lower = {name.lower(): value for name, value in (headers or {}).items()}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, data, lambda name: lower.get(name.lower()))


def failure(status: int, body: bytes | Any = b"", headers: Mapping[str, str] | None = None) -> Failure:
    found = classify(reply(status, body, headers))
    assert found is not None
    return found


def error(code: str | int | None = None, kind: str | None = None, message: str = "m", **more: Any) -> dict[str, Any]:
    """Return OpenAI's error body."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code} | more}


# The table

DESIGN = {
    # class: (retryable, scope, spends an attempt, lowers concurrency)
    "rate_limited": (True, "row", False, True),
    "slow_down": (True, "row", False, True),
    "quota_exhausted": (False, "provider", False, False),
    "payment_required": (False, "either", False, False),
    "auth": (False, "either", False, False),
    "forbidden": (False, "either", False, False),
    "not_found": (False, "either", False, False),
    "invalid_request": (False, "row", True, False),
    "too_large": (False, "row", True, False),
    "context_length": (False, "row", True, False),
    "content_filter": (False, "row", True, False),
    "overloaded": (True, "row", False, True),
    "server_error": (True, "row", True, False),
    "timeout": (True, "row", True, True),
    "connection": (True, "row", True, True),
    "bad_reply": (True, "row", True, False),
    "empty_reply": (True, "row", True, False),
    "asleep": (True, "row", False, False),
    "reply_too_large": (True, "row", True, False),
    "invalid_output": (False, "row", True, False),  # after its own attempts: until then the row is asked again
    "finish_reason": (False, "row", True, False),  # likewise
}


def test_the_table_has_one_line_for_each_class_of_the_design() -> None:
    for name, line in DESIGN.items():
        fault = TABLE[name]
        assert (fault.retryable, fault.scope, fault.spends_attempt, fault.lowers_concurrency) == line, name
    without_reply = {"invalid_row", "unreadable_document", "poison_row", "internal_error"}
    assert set(TABLE) - set(DESIGN) == without_reply


def test_the_names_of_the_table_are_unique_and_its_lines_make_sense() -> None:
    assert [line.name for line in TABLE.values()] == list(TABLE)
    for line in TABLE.values():
        # What would fail every row must stop the run, not be tried again on every row.
        assert not (line.scope == "provider" and line.retryable)


# Statuses


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_a_success_is_no_failure_whatever_its_body(status: int) -> None:
    assert classify(reply(status, error("insufficient_quota"))) is None


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "invalid_request"), (401, "auth"), (402, "payment_required"), (403, "forbidden"), (404, "not_found"),
        (405, "not_found"), (408, "timeout"), (409, "server_error"), (413, "too_large"),
        (418, "invalid_request"), (422, "invalid_request"), (423, "server_error"), (429, "rate_limited"),
        (499, "timeout"),
        (500, "server_error"), (501, "invalid_request"), (502, "server_error"), (503, "overloaded"),
        (504, "timeout"), (520, "server_error"), (524, "timeout"), (529, "overloaded"), (599, "server_error"),
        (300, "not_found"), (301, "not_found"), (304, "not_found"), (307, "not_found"), (308, "not_found"),
        (0, "bad_reply"), (101, "bad_reply"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("body", [b"", b"<html>Bad Gateway</html>", b'{"error": {"message": "m"}}', b'[{"error'])
def test_each_status_has_its_class_whatever_the_body_looks_like(status: int, name: str, body: bytes) -> None:
    found = failure(status, body)
    assert (found.fault.name, found.status) == (name, status)


@pytest.mark.parametrize(
    ("status", "code", "name"),
    [
        (429, "rate_limit_exceeded", "rate_limited"),
        (429, "slow_down", "slow_down"),
        (429, "insufficient_quota", "quota_exhausted"),
        (429, "credit_balance_exhausted", "quota_exhausted"),
        (429, "organization_spend_limit_exceeded", "quota_exhausted"),
        (429, "project_spend_limit_exceeded", "quota_exhausted"),
        (429, "organization_usage_limit_exceeded", "quota_exhausted"),
        (429, "enforced_spend_limit_reached", "quota_exhausted"),
        (402, "anything", "payment_required"),
        (402, "insufficient_quota", "quota_exhausted"),
        (403, "insufficient_quota", "quota_exhausted"),
        (403, "unsupported_country_region_territory", "auth"),
        (401, "invalid_api_key", "auth"),
        (404, "model_not_found", "not_found"),
        (400, "context_length_exceeded", "context_length"),
        (413, "context_length_exceeded", "context_length"),
        (400, "string_above_max_length", "invalid_request"),  # of which string, only the words say
        (400, "content_filter", "content_filter"),
        (400, "content_policy_violation", "content_filter"),
        (400, "invalid_value", "invalid_request"),
        # a code means only what it says beside its own status
        (500, "insufficient_quota", "server_error"),
        (503, "slow_down", "overloaded"),
        (400, "insufficient_quota", "quota_exhausted"),  # as Anthropic has it
    ],
)
@pytest.mark.parametrize("member", ["code", "type"])
def test_the_providers_own_code_decides_whether_it_is_code_or_type(
    status: int, code: str, name: str, member: str
) -> None:
    body = error(code) if member == "code" else error(None, code)
    for shape in (body, [body], body["error"], [body["error"]]):
        found = failure(status, shape)
        assert (found.fault.name, found.code) == (name, code)


# Error bodies, as the servers send them

BODIES: list[tuple[str, int, bytes | Any, str, str | None, str]] = [
    (
        "openai",
        429,
        error("rate_limit_exceeded", "tokens", "Rate limit reached for m: Limit 10, Used 10"),
        "rate_limited",
        "rate_limit_exceeded",
        "Rate limit reached for m: Limit 10, Used 10",
    ),
    (
        "openai quota",
        429,
        error("insufficient_quota", "insufficient_quota", "You exceeded your current quota"),
        "quota_exhausted",
        "insufficient_quota",
        "You exceeded your current quota",
    ),
    (
        "gemini array",
        429,
        [{"error": {"code": 429, "message": "Resource exhausted", "status": "RESOURCE_EXHAUSTED"}}],
        "rate_limited",
        None,
        "Resource exhausted",
    ),
    (
        "gemini bad request",
        400,
        [{"error": {"code": 400, "message": "Invalid value", "status": "INVALID_ARGUMENT"}}],
        "invalid_request",
        None,
        "Invalid value",
    ),
    (
        "vllm",
        400,
        {"object": "error", "message": "too long", "type": "BadRequestError", "param": None, "code": 400},
        "invalid_request",
        "BadRequestError",
        "too long",
    ),
    (
        "vllm model",
        404,
        {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404},
        "not_found",
        "NotFoundError",
        "The model `x` does not exist.",
    ),
    ("fastapi", 404, {"detail": "Not Found"}, "not_found", None, "Not Found"),
    (
        "fastapi validation",
        422,
        {"detail": [{"loc": ["body", "n"], "msg": "field required", "type": "missing"}]},
        "invalid_request",
        None,
        '[{"loc":["body","n"],"msg":"field required","type":"missing"}]',
    ),
    (
        "azure filter",
        400,
        error("content_filter", None, "filtered", status=400, innererror={"code": "ResponsibleAIPolicyViolation"}),
        "content_filter",
        "content_filter",
        "filtered",
    ),
    (
        "azure filter, only inside",
        400,
        error(None, "invalid_request_error", "filtered", innererror={"code": "ResponsibleAIPolicyViolation"}),
        "content_filter",
        "invalid_request_error",
        "filtered",
    ),
    ("azure numeric code", 401, error("401", None, "Access denied"), "auth", "401", "Access denied"),
    (
        "anthropic",
        529,
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        "overloaded",
        "overloaded_error",
        "Overloaded",
    ),
    (
        "anthropic spend limit",
        429,
        {"type": "error", "error": {"type": "enforced_spend_limit_reached", "message": "limit"}},
        "quota_exhausted",
        "enforced_spend_limit_reached",
        "limit",
    ),
    ("plain text in error", 500, {"error": "model crashed"}, "server_error", None, "model crashed"),
    ("error is null", 500, {"error": None, "message": "late"}, "server_error", None, "late"),
    ("error is a list", 500, {"error": ["a"], "message": "beside"}, "server_error", None, "beside"),
    ("a message that is an object", 500, {"error": {"message": {"a": 1}}}, "server_error", None, '{"a":1}'),
    ("a json string", 500, b'"oops"', "server_error", None, "oops"),
    ("a json number", 500, b"7", "server_error", None, "HTTP 500 with 1 bytes of text/plain"),
    ("an empty array", 500, b"[]", "server_error", None, "HTTP 500 with 2 bytes of text/plain"),
    ("an array of text", 500, b'["oops"]', "server_error", None, "oops"),
    ("html", 502, b"<html>502</html>", "server_error", None, "HTTP 502 with 16 bytes of text/plain: 502"),
    (
        "a page",  # its words are told, and no class is read from them
        403,
        (b"\n<!DOCTYPE html><title>No &amp; no</title><style>p {a: b}</style><p>Your request was <b>blocked</b> "
        b"<!-- not for\nyou --><script>if (a < b) { x() }</script>by our content filter policy</p>"),
        "forbidden",
        None,
        "HTTP 403 with 187 bytes of text/plain: No & no Your request was blocked by our content filter policy",
    ),
    ("plain text", 500, b"Internal Server Error\n", "server_error", None, "Internal Server Error"),
    ("plain words", 400, b"\xef\xbb\xbfmodel 'm' not found", "not_found", None, "model 'm' not found"),
    ("no text", 500, b"\x80\x81", "server_error", None, "HTTP 500 with 2 bytes of text/plain"),
    ("a document", 500, b"a" * 2_001, "server_error", None, "HTTP 500 with 2001 bytes of text/plain"),
    ("blank text", 500, {"error": " \n"}, "server_error", None, "HTTP 500 with 16 bytes of text/plain"),
    ("nothing", 503, b"", "overloaded", None, "HTTP 503 with 0 bytes of text/plain"),
    ("cut short", 500, b'{"error": {"mess', "server_error", None, "HTTP 500 with 16 bytes of text/plain"),
    ("no utf-8", 500, b'{"error": "\xff"}', "server_error", None, "HTTP 500 with 14 bytes of text/plain"),
    ("a lone surrogate", 500, b'{"error": "\\ud800"}', "server_error", None, "HTTP 500 with 19 bytes of text/plain"),
    ("deeply nested", 500, b"[" * 100_000, "server_error", None, "HTTP 500 with 100000 bytes of text/plain"),
    ("llama.cpp", 503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
     "overloaded", "unavailable_error", "Loading model"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "name", "code", "message"), [b[1:] for b in BODIES], ids=[b[0] for b in BODIES]
)
def test_the_error_bodies_of_known_servers(
    status: int, body: bytes | Any, name: str, code: str | None, message: str
) -> None:
    found = failure(status, body, {"Content-Type": "text/plain; charset=utf-8"})
    assert (found.fault.name, found.code, found.message) == (name, code, message)


def test_a_message_nested_as_deep_as_can_be_read_is_told_all_the_same() -> None:
    for depth in (100, 500, 900, 950, 990, 1_000, 5_000):
        body = b'{"error": {"message": ' + b"[" * depth + b"]" * depth + b"}}"
        assert failure(500, body).message


def test_a_message_is_one_line_of_bounded_length() -> None:
    found = failure(500, error(message="line one\r\n\tline two " + "x" * 10_000))
    assert found.message.startswith("line one line two xxx")
    assert len(found.message) == 500


def test_a_redirect_names_where_to_and_which_key_to_set() -> None:
    for body in (b"", b'{"detail": "moved"}', b"<html><title>moved</title></html>"):
        found = failure(308, body, {"Location": "https://example.com/v1/chat/completions"})
        assert "redirecting to https://example.com/v1/chat/completions" in found.message
        assert "base_url" in found.message
        assert ("moved" in found.message) == bool(body)


@pytest.mark.parametrize("status", [408, 500, 502, 504])
def test_what_came_from_behind_the_model_may_have_been_billed(status: int) -> None:
    assert failure(status).maybe_billed


@pytest.mark.parametrize("status", [301, 400, 401, 402, 403, 404, 409, 413, 422, 429, 503, 529])
def test_what_was_refused_was_not_billed(status: int) -> None:
    assert not failure(status).maybe_billed


# Retry-After

SENT = "Wed, 21 Oct 2026 07:28:00 GMT"
LATER = "Wed, 21 Oct 2026 07:29:30 GMT"
EARLIER = "Wed, 21 Oct 2026 07:27:00 GMT"
NO_WAIT = ["", "soon", "-5", "+5", "nan", "inf", "1e3", "1_0", "5s", "0x10", "1,5", "\u0665"]


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": " 7 "}, 7.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "0.25"}, 0.25),
        ({"Retry-After": "600"}, 600.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "0.5"}, 0.0005),
        ({"retry-after-ms": "1500", "Retry-After": "2"}, 1.5),
        # a form that does not count falls back to the next
        ({"retry-after-ms": "soon", "Retry-After": "2"}, 2.0),
        ({"retry-after-ms": "-1", "Retry-After": "2"}, 2.0),
        ({"retry-after-ms": "", "Retry-After": "2"}, 2.0),
        ({"retry-after-ms": "soon"}, None),
        *[({"Retry-After": text}, None) for text in NO_WAIT],
        # dates are measured against the server's own clock
        ({"Retry-After": LATER, "Date": SENT}, 90.0),
        ({"Retry-After": EARLIER, "Date": SENT}, 0.0),
        ({"Retry-After": "Wednesday, 21-Oct-26 07:29:30 GMT", "Date": SENT}, 90.0),
        ({"Retry-After": "Wed, 21 Oct 2026 09:29:30 +0200", "Date": SENT}, 90.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:29:30 -0000", "Date": SENT}, 90.0),
        ({"Retry-After": "Wed, 99 Oct 2026 07:29:30 GMT", "Date": SENT}, None),
        ({"Retry-After": "Wed, 21 Oct 99999 07:29:30 GMT", "Date": SENT}, None),
        # Azure's other name
        ({"x-ms-retry-after-ms": "1500", "Retry-After": "2"}, 1.5),
        ({"x-ms-retry-after-ms": "soon", "Retry-After": "2"}, 2.0),
        # other ways to name a time: nobody waits for 56 years
        ({"Retry-After": "1792567770", "Date": SENT}, 90.0),
        ({"Retry-After": "1792567770.5", "Date": SENT}, 90.5),
        ({"Retry-After": " 1792567770000 ", "Date": SENT}, 90.0),
        ({"Retry-After": "1792567000", "Date": SENT}, 0.0),
        ({"Retry-After": "999999999", "Date": SENT}, DAY_S),
        ({"Retry-After": "2026-10-21T07:29:30Z", "Date": SENT}, 90.0),
        ({"Retry-After": "2026-10-21 09:29:30.5+02:00", "Date": SENT}, 90.5),
        ({"Retry-After": "2026-10-21T07:29:30", "Date": SENT}, 90.0),
        ({"Retry-After": "2026-13-21T07:29:30Z", "Date": SENT}, None),
        # huge waits are mistakes
        ({"Retry-After": "99999999999999999999"}, DAY_S),
        ({"Retry-After": "9" * 400}, DAY_S),
        ({"retry-after-ms": "9" * 400}, DAY_S),
        ({"Retry-After": "Wed, 21 Oct 2099 07:29:30 GMT", "Date": SENT}, DAY_S),
    ],
)  # fmt: skip
def test_every_form_of_retry_after(headers: dict[str, str], wait: float | None) -> None:
    assert retry_after(reply(429, b"", headers)) == (None if wait is None else pytest.approx(wait))
    assert failure(429, b"", headers).retry_after == (None if wait is None else pytest.approx(wait))


def test_a_date_without_a_date_header_is_measured_against_this_clock() -> None:
    due = email.utils.parsedate_to_datetime(LATER).timestamp()
    for sent in ({}, {"Date": "yesterday"}):
        assert retry_after(reply(429, b"", {"Retry-After": LATER} | sent), now=due - 30) == 30.0
        assert retry_after(reply(429, b"", {"Retry-After": LATER} | sent), now=due + 30) == 0.0
    coming = email.utils.formatdate(time.time() + 100, usegmt=True)
    assert failure(429, b"", {"Retry-After": coming}).retry_after == pytest.approx(100, abs=5)


def test_a_date_without_a_zone_is_utc_whatever_the_zone_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        due = email.utils.parsedate_to_datetime(LATER).timestamp()
        for text in ("Wed, 21 Oct 2026 07:29:30 -0000", "Wed, 21 Oct 2026 07:29:30"):
            assert retry_after(reply(429, b"", {"Retry-After": text}), now=due - 30) == 30.0
    finally:
        monkeypatch.undo()
        time.tzset()


# Secrets


def test_no_secret_stays_in_a_text() -> None:
    text = "Incorrect API key provided: sk-abcdef. sk-abcdef is wrong; other-secret too."
    assert redacted(text, ["sk-abcdef", "other-secret"]) == (
        "Incorrect API key provided: [redacted]. [redacted] is wrong; [redacted] too."
    )


def test_a_secret_is_known_in_any_case_and_in_pieces() -> None:
    key = "sk-abCDef+12/34"
    for written in (key.upper(), "sk-abCD\n ef+12/34", "s k - a b C D e f + 1 2 / 3 4"):
        assert redacted(f"key {written}.", [key]) == "key [redacted]."
    assert redacted("TO BE", ["to be"]) == "TO BE", "what is short may be a word"
    for written in ("sk-abCDef%2B12%2F34", "sk-abCDef%2b12/34", key.encode().hex(), key.encode().hex().upper()):
        assert redacted(f"key {written}.", [key, *encoded([key])]) == "key [redacted]."


def test_no_secrets_change_nothing() -> None:
    assert redacted("text", []) == "text"
    key = "sk-verysecret123"
    for each in ("%%%02x", "&#%d;", "&#x%x;", "\\u%04x"):
        assert redacted("key " + "".join(each % ord(sign) for sign in key) + ".", [key]) == "key [redacted]."
    assert redacted("100%25 &amp; \\u0041", [key]) == "100%25 &amp; \\u0041", "what hides nothing stays"
    assert redacted("text", [""]) == "text"


@settings(deadline=None)
@given(before=st.integers(0, 600), secret=st.from_regex(r"sk-[a-zA-Z0-9]{20,60}", fullmatch=True))
def test_a_secret_that_was_cut_off_with_the_message_is_not_left_in_part(before: int, secret: str) -> None:
    found = failure(401, error("invalid_api_key", message="." * before + secret))
    assert secret[:4] not in redacted(found.message, [secret])


# Anything at all

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["error", "message", "detail", "code", "type", "innererror", "param"])
            | st.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)
header_values = st.text(st.characters(codec="latin-1"), max_size=40)


@settings(deadline=None)
@given(
    status=st.integers(-1, 1000),
    body=st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()),
    headers=st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "date", "content-type", "location"]), header_values
    ),
)
@example(status=301, body=b"", headers={"location": "a\nb", "content-type": "c\nd"})
@example(status=429, body=b"", headers={"retry-after": "Thu, 01 Jan 0001 00:00:00 +2359"})
@example(status=429, body=b"", headers={"retry-after": "Mon, 01 Jan 0000 00:00:00 GMT", "date": "1 1 1 1 1 1"})
def test_classify_never_raises_and_always_says_something(status: int, body: bytes, headers: dict[str, str]) -> None:
    found = classify(reply(status, body, headers))
    if 200 <= status < 300:
        assert found is None
        return
    assert found is not None
    assert TABLE[found.fault.name] is found.fault
    assert found.message
    assert "\n" not in found.message
    assert len(found.message) <= 500
    assert found.retry_after is None or 0 <= found.retry_after <= DAY_S
    json.dumps([found.message, found.code]).encode()


@settings(deadline=None)
@given(text=header_values)
def test_no_retry_after_can_raise_or_leave_its_bounds(text: str) -> None:
    for name in ("retry-after", "retry-after-ms", "date"):
        wait = retry_after(reply(429, b"", {"retry-after": "x", name: text}))
        assert wait is None or 0 <= wait <= DAY_S


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Requested 45000, limit 30000", "too_large"),
        ("on tokens per min (TPM): Limit 30000, Requested 45000.", "too_large"),
        ("Limit: 30,000, Used: 12, Requested: 45,000. Please try again in 30s.", "too_large"),
        ("limit 30000 / requested 30001", "too_large"),
        ("Request too large for sim-small", "too_large"),
        ("Limit 30000, Used 29000, Requested 1500. Please try again in 1s.", "rate_limited"),
        ("Limit 30000, Requested 30000", "rate_limited"),
        ("Limit " + "9" * 5000 + ", Requested " + "9" * 5000, "rate_limited"),
        ("Limit ,, Requested ,", "rate_limited"),
    ],
)
def test_a_429_for_more_than_the_whole_limit_is_the_rows_own(message: str, expected: str) -> None:
    assert failure(429, {"error": {"message": message, "code": "rate_limit_exceeded"}}).fault.name == expected


@pytest.mark.parametrize(
    ("status", "body", "found"),
    [
        (500, {"error": "something odd"}, "broken"),
        (500, {"error": {"message": "odd"}}, "broken"),
        (500, {"error": {"message": "odd", "type": "internal_server_error", "code": None}}, "broken"),
        (500, {"object": "error", "message": "odd", "type": "InternalServerError", "code": 500}, "broken"),
        (500, {"detail": "odd"}, "broken"),
        (500, {"message": "odd"}, "broken"),
        (500, {"error": {"message": "The server had an error", "type": "server_error"}}, ""),
        (503, {"error": "loading"}, ""),
        (500, {"error": "the model is overloaded"}, ""),
        (200, {"error": "something odd"}, "another"),
        (200, {"detail": "odd"}, ""),
    ],
)
def test_a_server_that_has_never_answered_and_fails_without_a_code_is_broken(
    status: int, body: dict[str, Any], found: str
) -> None:
    reply = Reply(status, json.dumps(body).encode(), lambda _: None)
    failure = inside(reply) if status == 200 else classify(reply)
    assert (dead_end(failure) if failure is not None else "") == found
