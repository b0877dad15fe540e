"""The fault table, and the one place that reads status codes and error bodies.

Everything else sees a `Failure` with its `FaultClass`. The classes and what follows from each are agreed in the
table below; a class that needs other treatment gets another line, never a special case elsewhere.
"""

import re
import time
from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from rowmill.core.wire import Failure, FaultClass, Reply

# A server that cannot take more now says nothing about the row: rate_limited, slow_down and overloaded spend none
# of the row's attempts. Otherwise a minute of 503 would fail every row that was in flight.
TABLE = {
    line.name: line
    for line in (
        # name, retryable, scope, spends_attempt, lowers_concurrency, unhealthy
        FaultClass("rate_limited", True, "row", False, True, False),
        FaultClass("slow_down", True, "row", False, True, False),
        FaultClass("quota_exhausted", False, "provider", False, False, False),
        FaultClass("auth", False, "provider", False, False, False),
        FaultClass("not_found", False, "provider", False, False, False),
        FaultClass("invalid_request", False, "row", True, False, False),
        FaultClass("context_length", False, "row", True, False, False),
        FaultClass("content_filter", False, "row", True, False, False),
        FaultClass("overloaded", True, "row", False, True, True),
        FaultClass("server_error", True, "row", True, False, True),
        FaultClass("timeout", True, "row", True, True, True),
        FaultClass("connection", True, "row", True, True, True),
        FaultClass("bad_reply", True, "row", True, False, True),
        FaultClass("invalid_output", False, "row", True, False, False),
        FaultClass("invalid_row", False, "row", True, False, False),
        FaultClass("poison_row", False, "row", True, False, False),
    )
}
RATE_LIMITED = TABLE["rate_limited"]
SLOW_DOWN = TABLE["slow_down"]
TIMEOUT = TABLE["timeout"]
CONNECTION = TABLE["connection"]
BAD_REPLY = TABLE["bad_reply"]
INVALID_OUTPUT = TABLE["invalid_output"]
INVALID_ROW = TABLE["invalid_row"]
INVALID_REQUEST = TABLE["invalid_request"]
CONTENT_FILTER = TABLE["content_filter"]
POISON_ROW = TABLE["poison_row"]

# Codes and types of errors that no waiting ends. Source: OpenAI's and Anthropic's error references.
_BILLING = frozenset({
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "enforced_spend_limit_reached",
    "billing_hard_limit_reached",
    "billing_not_active",
})  # fmt: skip
_CONTEXT = frozenset({"context_length_exceeded", "string_above_max_length"})
_FILTER = frozenset({"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"})

_BY_STATUS = {
    400: "invalid_request",
    401: "auth",
    402: "quota_exhausted",
    403: "auth",
    404: "not_found",
    408: "timeout",
    409: "server_error",
    413: "invalid_request",
    422: "invalid_request",
    429: "rate_limited",
    503: "overloaded",
    529: "overloaded",
}
_MESSAGE_CHARACTERS = 500  # enough to understand; an HTML error page is not worth keeping
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?")
_LONGEST_RETRY_AFTER_S = 86_400.0  # a day; beyond it the header is a mistake, not a wish


def classify(reply: Reply) -> Failure | None:
    """Return what a reply's status says went wrong, or None for a 2xx, whose body is the task's to judge."""
    if 200 <= reply.status < 300:  # noqa: PLR2004
        return None
    error = _error_object(reply.body)
    codes = {text for text in (error.get("code"), error.get("type"), _inner_code(error)) if isinstance(text, str)}
    return Failure(
        fault=TABLE[_class_name(reply.status, codes)],
        message=_message(reply, error),
        code=next((text for text in (error.get("code"), error.get("type")) if isinstance(text, str)), None),
        status=reply.status,
        retry_after=retry_after(reply),
        # The work may have been done: the reply came from something between the model and us, or after the model.
        maybe_billed=reply.status >= 500 or reply.status == 408,  # noqa: PLR2004
    )


def retry_after(reply: Reply, now: float | None = None) -> float | None:
    """Return the seconds that the server asked to wait; None where it did not say, or not in a form that counts.

    Reads `retry-after-ms`, then `retry-after` in seconds or as an HTTP date. A date is measured against the
    reply's own `date` header, so that a wrong clock on either side does not matter. `now` is Unix time.
    """
    if (text := reply.header("retry-after-ms")) is not None and (wait := _seconds(text, 0.001)) is not None:
        return wait
    if (text := reply.header("retry-after")) is None:
        return None
    if (wait := _seconds(text, 1.0)) is not None:
        return wait
    if (due := _date(text)) is None:
        return None
    sent = _date(reply.header("date") or "")
    wait = due - (sent if sent is not None else time.time() if now is None else now)
    return min(max(wait, 0.0), _LONGEST_RETRY_AFTER_S)


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Return the text without any of the secrets: servers echo the key they did not like."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "[redacted]")
        # Messages are cut at a fixed length, and the cut can go through a secret.
        kept = next((n for n in range(len(secret) - 1, 3, -1) if text.endswith(secret[:n])), 0)
        if kept:
            text = text[:-kept] + "[redacted]"
    return text


def _class_name(status: int, codes: set[str]) -> str:
    if status in (402, 403, 429) and codes & _BILLING:
        return "quota_exhausted"
    if status == 429 and "slow_down" in codes:  # noqa: PLR2004
        return "slow_down"
    if status in (400, 413, 422) and codes & _CONTEXT:
        return "context_length"
    if status in (400, 422) and codes & _FILTER:
        return "content_filter"
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 300 <= status < 400:  # noqa: PLR2004 - the configured URL is not where the API is
        return "not_found"
    if 400 <= status < 500:  # noqa: PLR2004
        return "invalid_request"
    return "server_error" if status >= 500 else "bad_reply"  # noqa: PLR2004


def _error_object(body: bytes) -> dict[str, Any]:
    """Find the error in the body shapes that servers use; an empty dict where there is none.

    OpenAI: {"error": {...}}; Gemini: [{"error": {...}}]; some gateways: {"error": "text"}; vLLM: {"message": ...};
    FastAPI: {"detail": ...}.
    """
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    if isinstance(decoded, list) and decoded:
        decoded = decoded[0]
    if not isinstance(decoded, dict):
        return {}
    error = decoded.get("error", decoded)
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else decoded


def _inner_code(error: dict[str, Any]) -> Any:
    inner = error.get("innererror")
    return inner.get("code") if isinstance(inner, dict) else None


def _message(reply: Reply, error: dict[str, Any]) -> str:
    found = error.get("message") or error.get("detail")
    if found and not isinstance(found, str):
        try:
            found = msgspec.json.encode(found).decode()
        except RecursionError:  # as deeply nested as could just be read
            found = f"HTTP {reply.status} with a nested error"
    words = (found or "").split()
    if not words:
        kind = (reply.header("content-type") or "no content type").partition(";")[0]
        text = f"HTTP {reply.status} with {len(reply.body)} bytes of {kind}"
        if location := reply.header("location"):
            text += f", redirecting to {location}: set base_url to the API's own URL"
        words = text.split()
    return " ".join(words)[:_MESSAGE_CHARACTERS]


def _seconds(text: str, unit: float) -> float | None:
    number = _NUMBER.fullmatch(text.strip())  # float() would also take "inf", "nan" and "1_000"
    return min(float(number[0]) * unit, _LONGEST_RETRY_AFTER_S) if number else None


def _date(text: str) -> float | None:
    try:
        date = parsedate_to_datetime(text)
        # Without a zone Python would take it for local time; HTTP dates are UTC.
        return (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
