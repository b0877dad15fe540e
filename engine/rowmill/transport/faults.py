"""The fault table, and the one place that reads status codes and error bodies.

Everything else sees a `Failure` with its `FaultClass`. The classes and what follows from each are agreed in the
table below; a class that needs other treatment gets another line, never a special case elsewhere.
"""

import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import msgspec

from rowmill.core.counts import DeadEnd
from rowmill.core.wire import Failure, FaultClass, Reply
from rowmill.transport import dead_ends, error_bodies, refusals

# A server that cannot take more now says nothing about the row: rate_limited, slow_down and overloaded spend none
# of the row's attempts. Otherwise a minute of 503 would fail every row that was in flight.
TABLE = {
    line.name: line
    for line in (
        # name, retryable, scope, spends_attempt, lowers_concurrency, unhealthy
        FaultClass("rate_limited", True, "row", False, True, False),
        FaultClass("slow_down", True, "row", False, True, False),
        FaultClass("quota_exhausted", False, "provider", False, False, False),
        FaultClass("payment_required", False, "either", False, False, False),
        FaultClass("auth", False, "either", False, False, False),
        FaultClass("forbidden", False, "either", False, False, False),
        FaultClass("not_found", False, "either", False, False, False),
        FaultClass("invalid_request", False, "row", True, False, False),
        FaultClass("too_large", False, "row", True, False, False),
        FaultClass("context_length", False, "row", True, False, False),
        FaultClass("content_filter", False, "row", True, False, False),
        FaultClass("overloaded", True, "row", False, True, True),
        FaultClass("server_error", True, "row", True, False, True),
        FaultClass("timeout", True, "row", True, True, True),
        FaultClass("connection", True, "row", True, True, True),
        FaultClass("asleep", True, "row", False, False, False),
        FaultClass("bad_reply", True, "row", True, False, True),
        FaultClass("empty_reply", True, "row", True, False, False, once=True),
        FaultClass("reply_too_large", True, "row", True, False, False, once=True),
        FaultClass("invalid_output", False, "row", True, False, False),
        FaultClass("finish_reason", False, "row", True, False, False),
        FaultClass("invalid_row", False, "row", True, False, False),
        FaultClass("unreadable_document", False, "row", True, False, False),
        FaultClass("poison_row", False, "row", True, False, False),
        FaultClass("internal_error", False, "row", True, False, False),
    )
}
RATE_LIMITED = TABLE["rate_limited"]
SLOW_DOWN = TABLE["slow_down"]
NO_ROOM = (RATE_LIMITED, SLOW_DOWN)
TIMEOUT = TABLE["timeout"]
CONNECTION = TABLE["connection"]
NO_REPLY = (TIMEOUT, CONNECTION)
ASLEEP = TABLE["asleep"]  # one of these two, of a request that was on its way while this process did not run
BAD_REPLY = TABLE["bad_reply"]
EMPTY_REPLY = TABLE["empty_reply"]
REPLY_TOO_LARGE = TABLE["reply_too_large"]
INVALID_OUTPUT = TABLE["invalid_output"]
FINISH_REASON = TABLE["finish_reason"]
INVALID_ROW = TABLE["invalid_row"]
UNREADABLE_DOCUMENT = TABLE["unreadable_document"]
INVALID_REQUEST = TABLE["invalid_request"]
AUTH = TABLE["auth"]
PAYMENT_REQUIRED = TABLE["payment_required"]
NOT_FOUND = TABLE["not_found"]
CONTENT_FILTER = TABLE["content_filter"]
POISON_ROW = TABLE["poison_row"]
INTERNAL_ERROR = TABLE["internal_error"]

_BY_STATUS = {
    400: "invalid_request",
    401: "auth",
    402: "payment_required",
    403: "forbidden",
    404: "not_found",
    405: "not_found",  # as a file server or a page answers, never an API that has this path
    407: "auth",  # a proxy between
    408: "timeout",
    409: "server_error",
    410: "not_found",  # as a model that has been retired
    413: "too_large",
    421: "not_found",
    422: "invalid_request",
    423: "server_error",
    424: "server_error",
    425: "overloaded",
    426: "not_found",
    429: "rate_limited",
    451: "forbidden",
    498: "overloaded",
    499: "timeout",
    501: "invalid_request",
    503: "overloaded",
    504: "timeout",
    511: "auth",  # of a network that wants a login first
    522: "timeout",
    524: "timeout",
    529: "overloaded",
}
_MESSAGE_CHARACTERS = 500  # enough to understand; an HTML error page is not worth keeping
_SEARCHED = 4_000  # characters of a message that are searched for words
# Finish reasons, as JSON, of answers that may hold an error beside a part of a text.
BROKEN_OFF = frozenset(
    b'"%b"' % word for name in error_bodies.BROKEN_OFF for word in (name.encode(), name.upper().encode())
) | {b"null"}
_OF_THE_ROW = ("messages", "input", "prompt")
_BAD_REQUEST = 400
_REDIRECTS = range(300, 400)
_INTERNAL = 500
_NO_WORDS = "HTTP 500 with "  # as `_message` begins where nothing is said
_BETWEEN = frozenset({408, 499})  # something between the model and us has lost patience
_NOBODY_BEHIND = frozenset({502, 503, 504, 520, 521, 522, 523, 529, 530})
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?")
_UNIX_S = 1e9  # in 2001; 30 years would be a mistake as a wait
_DIGITS = 20  # of a Unix time, with its fraction
_LIKE_A_KEY = 8  # characters of a secret that is looked for in any case, and in pieces: a shorter one may be a word
_LONGEST_RETRY_AFTER_S = 86_400.0  # a day; beyond it the header is a mistake, not a wish


def classify(reply: Reply) -> Failure | None:
    """Return what a reply's status says went wrong, or None for a 2xx, whose body is the task's to judge."""
    if 200 <= reply.status < 300:  # noqa: PLR2004
        return None
    return _failure(reply, reply.status, error_bodies.error_in(reply.body))


def is_of_all(failure: Failure) -> bool:
    """Whether a refusal speaks of what all rows share: the key, the credit, or the model."""
    return failure.fault in (AUTH, PAYMENT_REQUIRED) or names_model(failure)


def names_model(failure: Failure) -> bool:
    """Whether a refusal is for a model that is not there, or not for this key."""
    return failure.fault is NOT_FOUND and refusals.names_model(failure.code, failure.message)


def dead_end(failure: Failure) -> DeadEnd:
    """Say what a failure would mean at a server that has never answered: nothing is there, or something else is.

    Or it is the server, and is broken: one that is only overloaded, or starts, says so, or by a code.
    """
    if failure.part in ("name", "connection", "proxy"):
        return "nothing"
    if failure.status == _INTERNAL and failure.fault.name == "server_error" and refusals.tells_nothing(failure.code):
        return "" if failure.message.startswith(_NO_WORDS) else "broken"  # a page is of what stands in front of it
    return "another" if failure.part is not None or failure.fault is BAD_REPLY else ""


def nobody_behind(failure: Failure) -> bool:
    """Whether something in front of a server says that there is none now: the row was not looked at."""
    return failure.status in _NOBODY_BEHIND and failure.fault.unhealthy


def may_be_of_row(failure: Failure) -> bool:
    """Whether a failure that speaks against a server's health may come of what the row asks: it was looked at."""
    fault = failure.fault
    looked_at = failure.part in (None, "http") and fault.spends_attempt
    return fault.unhealthy and looked_at and not nobody_behind(failure)


def may_be_of_all(failure: Failure) -> bool:
    """Whether the same failure of row after row would speak for a mistake in what all rows share."""
    return failure.fault in (INVALID_REQUEST, AUTH) and failure.status is not None and not failure.about_row


def inside(reply: Reply) -> Failure | None:
    """Return the error that the body of a 2xx reply is, or holds beside a choice; None where there is none.

    Routers answer so where the model behind them has failed. A status that the error names counts as the reply's would.
    """
    named = error_bodies.error_within(reply.body)
    error = named or error_bodies.words_instead(reply.body)
    if not error:
        return None
    status = error_bodies.status_of(error)
    if status is None:
        words = error_bodies.words_of(error)[:_SEARCHED]
        status = refusals.status_in(error_bodies.codes_of(error), words) or reply.status
    failure = _failure(reply, status, error)
    if not named and failure.fault is BAD_REPLY:
        return None
    # Something may have been generated before it went wrong.
    return msgspec.structs.replace(failure, status=reply.status, maybe_billed=failure.fault.spends_attempt)


def said(reply: Reply) -> str:
    """Return what a 2xx reply says in the place of an answer; nothing where it has no words."""
    words = error_bodies.words_of(error_bodies.words_instead(reply.body))
    return words[:_MESSAGE_CHARACTERS]


def _failure(reply: Reply, status: int, error: dict[str, Any]) -> Failure:
    words = error_bodies.words_of(error)
    codes = error_bodies.codes_of(error)
    if (told := reply.header("x-amzn-errortype")) is not None:  # AWS, whose bodies have the words alone
        codes.add(told.partition(":")[0])
    name = refusals.class_of(status, codes, words[:_SEARCHED], flagged=error_bodies.is_flagged(error))
    wait = retry_after(reply)
    if wait is None and (asked := error_bodies.wait_of(error)) is not None:
        wait = min(asked, _LONGEST_RETRY_AFTER_S)
    if status == _BAD_REQUEST and dead_ends.wants_https(reply.body):
        name = "not_found"  # TLS is spoken there
    fault = TABLE[name or _by_status(status)]
    return Failure(
        fault=fault,
        message=_message(reply, error, words),
        code=next((str(each) for each in (error.get("code"), error.get("type")) if isinstance(each, str)), None),
        param=param if isinstance(param := error.get("param"), str) and param else None,
        status=status,
        retry_after=None if fault.scope == "provider" else wait,  # no waiting brings credit
        # The work may have been done: the reply came from something between the model and us, or after the model.
        # What was refused for want of room was not begun.
        maybe_billed=(status >= 500 or status in _BETWEEN) and fault.spends_attempt,  # noqa: PLR2004
        about_row=str(error.get("param") or "").startswith(_OF_THE_ROW),
    )


def retry_after(reply: Reply, now: float | None = None) -> float | None:
    """Return the seconds that the server asked to wait; None where it did not say, or not in a form that counts.

    Reads `retry-after-ms`, then `retry-after` in seconds, or as an HTTP date, an ISO date or a Unix time. A time is
    measured against the reply's own `date` header, so that a wrong clock on either side does not matter. `now` is
    Unix time.
    """
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if (text := reply.header(name)) is not None and (wait := _seconds(text, 0.001)) is not None:
            return wait
    if (text := reply.header("retry-after")) is None:
        return None
    if (due := _unix_time(text.strip())) is None:
        if (wait := _seconds(text, 1.0)) is not None:
            return wait
        if (due := _date(text)) is None:
            return None
    sent = _date(reply.header("date") or "")
    wait = due - (sent if sent is not None else time.time() if now is None else now)
    return min(max(wait, 0.0), _LONGEST_RETRY_AFTER_S)


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Return the text without any of the secrets, in any case and in pieces: servers echo a key they did not like.

    Where one shows only once escapes are undone, of a URL, of HTML or of JSON, they stay undone.
    """
    secrets = tuple(filter(None, secrets))
    text = _without(text, secrets)
    plain = text
    for mark, undone in _ESCAPES:
        if secrets and mark in plain:
            plain = undone(plain)
    return text if plain == text or (found := _without(plain, secrets)) == plain else found


def _without(text: str, secrets: tuple[str, ...]) -> str:
    squeezed = _squeezed(text)
    for secret in secrets:
        text = text.replace(secret, "[redacted]")
        # Messages are cut at a fixed length, and the cut can go through a secret.
        kept = next((n for n in range(len(secret) - 1, 3, -1) if text.endswith(secret[:n])), 0)
        if kept:
            text = text[:-kept] + "[redacted]"
        if len(secret) >= _LIKE_A_KEY and (bare := _squeezed(secret)) in squeezed:
            text = re.sub(r"\s*".join(map(re.escape, bare)), "[redacted]", text, flags=re.IGNORECASE)
    return text


def _html_undone(text: str) -> str:
    import html  # its two thousand names, for such texts alone

    return html.unescape(text)


def _json_undone(text: str) -> str:
    return _JSON_ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)


_JSON_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_ESCAPES = (("%", unquote), ("&", _html_undone), ("\\u", _json_undone))


def _squeezed(text: str) -> str:
    return "".join(text.split()).lower()


def _by_status(status: int) -> str:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status in _REDIRECTS:  # the configured URL is not where the API is
        return "not_found"
    if 400 <= status < 500:  # noqa: PLR2004
        return "invalid_request"
    return "server_error" if status >= 500 else "bad_reply"  # noqa: PLR2004


def _message(reply: Reply, error: dict[str, Any], words: str) -> str:
    found = error.get("message") or error.get("detail")
    if isinstance(found, list | dict):
        try:
            words = msgspec.json.encode(found).decode()
        except RecursionError:  # as deeply nested as could just be read
            words = f"HTTP {reply.status} with a nested error"
    elif words and (place := error_bodies.place_of(error)):
        words += f" ({place})"
    if not words:
        kind = (reply.header("content-type") or "no content type").partition(";")[0]
        words = f"HTTP {reply.status} with {len(reply.body)} bytes of {kind}"
        if seen := error_bodies.page_words(reply.body):
            words += f": {seen}"
    if reply.status in _REDIRECTS and (location := reply.header("location")):
        words += f", redirecting to {location}: set base_url to the API's own URL"
    return " ".join(words.split())[:_MESSAGE_CHARACTERS]


def _seconds(text: str, unit: float) -> float | None:
    number = _NUMBER.fullmatch(text.strip())  # float() would also take "inf", "nan" and "1_000"
    return min(float(number[0]) * unit, _LONGEST_RETRY_AFTER_S) if number else None


def _unix_time(text: str) -> float | None:
    """Return the Unix time that a text is, in seconds or milliseconds, as nobody waits for as long."""
    number = float(text) if len(text) <= _DIGITS and _NUMBER.fullmatch(text) else 0.0
    return None if number < _UNIX_S else number if number < 1000 * _UNIX_S else number / 1000


def _date(text: str) -> float | None:
    from email.utils import parsedate_to_datetime  # with all of mail; few servers name a date

    try:
        date = datetime.fromisoformat(text) if text[:4].isdecimal() else parsedate_to_datetime(text)
        # Without a zone Python would take it for local time; HTTP dates are UTC.
        return (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
