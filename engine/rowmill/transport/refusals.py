"""By what a server's refusal is known: its codes, and where it has none its words.

Each line was seen in a server's source, in its documentation or in what people report of it; the tests have them whole,
each with its source (`tests/transport/refusal_shapes.py`). Words are looked for in the message alone, never in those
parts of an error that repeat what was sent.
"""

import re
from collections.abc import Set as AbstractSet


class _Pattern:
    """A pattern that is compiled once it is looked for: all of them take 4 ms of a start, and most runs need none."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._compiled: re.Pattern[str] | None = None

    def search(self, text: str) -> re.Match[str] | None:
        if self._compiled is None:
            self._compiled = re.compile(self._pattern, re.IGNORECASE)
        return self._compiled.search(text)


def _any(*patterns: str) -> _Pattern:
    return _Pattern("|".join(patterns))


# Out of credit: nothing that waiting ends. Some are codes, some words; both are looked for in code, type and message.
BILLING = _any(
    r"insufficient_quota",
    r"credit_balance_exhausted",
    r"(organization|project)_spend_limit_exceeded",
    r"organization_usage_limit_exceeded",
    r"billing_not_active",
    r"billing_hard_limit_reached",
    r"budget_exceeded",
    r"enforced_spend_limit_reached",
    r"insufficient (balance|credits?)\b",
    r"credit limit exceeded",
    r"credit balance is too low",
    r"(used all available|doesn't have any|out of) credits",
    r"monthly (spending limit|included credits)",
    r"specified API usage limits",
    r"API usage limits: your organization",
    r"Key limit exceeded",
    r"(weekly|hourly|daily|session) usage limit",
    r"Budget has been exceeded",
    r"ExceededBudget",
    r"over budget",
    r"can only afford 0\b",
    r"API calls / month",
    r"account .{0,40}suspended",
    r", limit: 0,",
    r"update your payment method",
)
# Gemini says "you exceeded your current quota, please check your plan" of a limit a minute too, in these words.
A_MINUTES_QUOTA = _any(r"RESOURCE_EXHAUSTED", r"retryDelay")
# Credit that requests under way have reserved: it is there again once they are done.
IN_FLIGHT = _any(r"in.flight.budget", r"current in-flight requests")
# About this one prompt: a shorter one is covered.
TOO_DEAR = _any(r"fewer max_tokens", r"prompt tokens limit exceeded", r"weight_exceeds_budget")
TOO_LARGE = _any(
    r"request too large\b",
    r"request exceeds the maximum size",
    r"request entity too large",
    r"reduce your message size",
    r"(?:request|prompt|input|message) (?:is|was) (?:larger|bigger) than",
)
# Of a limit a minute: more than all of it is never let through, whatever is left.
LIMIT = _Pattern(r"\blimit\b\W{0,3}(?:(?:is|of)\W)?(\d[\d,]*)")
# The size of one request, which no waiting makes smaller: of 45000 tokens, where 30000 are the quota. Where a rate is
# what exceeds, or what was used before, waiting helps.
OWN = _any(
    r"\b(?:this|your|the|single|in) (?:request|prompt|message|input)\b(?!s? (?:rate|count|frequency|quota|volume))"
)
OF_A_SIZE = _any(r"\btokens?\b", r"\bcharacters\b", r"\bbytes\b", r"\bsize\b")
OF_A_RATE = _any(
    r"\bus(?:ed|age)\b",
    r"\bcurrent",
    r"\balready\b",
    r"\bso far\b",
    r"\bremaining\b",
    r"try again",
    r"\bretry\b",
)
MORE_THAN = _Pattern(
    r"\b(\d[\d,]*)(?: \w+)?\)?(?:(?: (?:is|are|which))* (?:larger|greater|bigger|higher|more) than\b"
    r"|,? exceed(?:s|ing)?\b|,? (?:is|are) (?:over|above)\b| ?> ?)[^\d.;]{0,60}(\d[\d,]*)"
)
REQUESTED = _Pattern(r"\brequested\b\W{0,3}(?:about\W)?(\d[\d,]*)")

CONTEXT_CODES = frozenset(
    {
        "context_length_exceeded",
        "exceed_context_size_error",
        "model_context_window_exceeded",
    }
)
CONTEXT = _any(
    r"maximum context (?:length|limit) (?:is|of) \d",
    r"maximum context length: \d",
    r"\btoo large for model with \d+ maximum context length",
    r"maximum prompt length is \d",
    r"context length (?:is|of) only \d",
    r"exceed(?:s|ed)? (?:the |this model(?:'s)? )?(?:available )?context (?:size|window|length|limit)",
    r"context window exceeds limit",
    r"context window of \d+",
    r"longer than the (?:model'?s )?context length",
    r"less than the context length of the model",
    r"input tokens exceed the configured limit",
    r"input token count\b.{0,24}\bexceeds the maximum",
    r"prompt tokens \(\d+\) exceed",
    r"prompt token count of \d+ exceeds",
    r"(?:prompt|input) is too long",
    r"exceeded model token limit",
    r"exceeds the maximum allowed (?:input )?length",
    r"range of input length should be",
    r"greater than the context length",
    r"configured context size is \d",
    r"exceed(?:s|ed)? (?:max|maximum) context (?:length|window)",
    r"exceed max message tokens",
    r"(?:input tokens|requested input length\b.{0,12}) exceeds? maximum (?:input )?length",
    r"`?inputs`? tokens \+ `?max_new_tokens`? must be",
    r"`inputs` must have less than \d+ tokens",
    r"total number of tokens\b.{0,40}\bcannot exceed",
    r"too many tokens: size limit exceeded",
    r"reduce the length of (?:the|your) (?:messages|input|prompt)",
    r"\(\d+ tokens\) is too large to process",
    r"must be at least 1, got -\d",  # what is left of the context, older vLLM
    r"'messages(?:\[\d+\])?[^']*content[^']*': string too long",
)

FILTER_CODES = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "cyber_policy_violation",
        "data_inspection_failed",
        "image_content_policy_violation",
        "invalid_prompt",
        "responsibleaipolicyviolation",
        "1301",
    }
)
FILTER = _any(
    r"content management policy",
    r"content[ ]filter(?:ing|ed)? polic",
    r"blocked by (?:the |our )?(?:content|safety)",
    r"flagged (?:as|for) (?:potentially violating|possible|\")",
    r"(?:input|prompt|content|request) was (?:flagged|blocked)",
    r"requires? moderation on",
    r"(?:our|the) safety system",
    r"violat\w*\b.{0,24}\b(?:usage (?:policy|policies|guidelines)|content policy|terms of service)",
    r"content exists risk",
    r"may contain inappropriate content",
    r"(?:unsafe|sensitive) (?:or (?:unsafe|sensitive) )?content",
    r"considered high risk",
    r"ContentPolicyViolationError",
    r"prohibited[ _]content",
    r"\bmoderation\b",
)
# Members of an error that only a moderation's refusal has.
FLAGGED = ("flagged_input", "reasons")

# The server's own generation failed its own check: asked again, another one may pass.
GENERATION_CODES = frozenset({"json_validate_failed", "tool_use_failed", "output_parse_failed"})
OVERLOADED = _any(
    r"\boverload(?:ed)?\b",
    r"over capacity",
    r"capacity (?:temporarily )?exceeded",
    r"at capacity",
    r"high demand",
    r"currently loading",
    r"loading model",
    r"no slot available",
    r"queue is full",
    r"server busy",
    r"too busy",
    r"slow down",
    r"resource unavailable",
    r"no provider available",
)
WRONG_KEY = _any(
    r"API_KEY_INVALID",
    r"API key not valid",
    r"Incorrect API key provided",
    r"invalid[ _]api[ _]key",
    r"User location is not supported",
    r"unsupported_country_region_territory",
    r"Country, region, or territory not supported",
    r"invalid_authentication",
    r"permission[ _]denied",
    r"permission_error",
    r"insufficient permissions?",
    r"missing scopes?",
    r"not authorized",
    r"Access denied due to",
    r"Authentication failed",
    r"PermissionDenied",
)
NO_MODEL = _any(
    r"model_not_found",
    r"model_not_available",
    r"invalid_model",
    r"Model Not Exist",
    r"Server is pinned to .{1,200}; requested ",
    r"is not a valid model ID",
    r"Invalid model name\b",
    r"Invalid model:",
    r"does not have access to model",
    r"\bmodel\b.{0,80}\b(?:not found|does not exist|not exist)",
)
# Of a request that is not as the API wants it, which some servers answer with a 500: llama-cpp-python's.
NOT_VALID = _any(r"\A\W*\d+ validation errors?\b.{0,40}\n?.{0,200}\bloc\b", r"\bRequestValidationError\b")
# A 404 about what is in this request, not about the URL or the model.
NOT_FOR_THIS_ROW = _any(r"No endpoints found that support", r"No allowed providers are available")

_PLAIN = frozenset({401, 404, 408, 413, 499})  # statuses that say enough by themselves

_WAIT = _Pattern(
    r"(?:try again|retry|wait|available)\b(?: (?:in|after|for))? (?:about )?"
    r"((?:\d+(?:\.\d+)?\s*(?:milliseconds?|ms|hours?|h|minutes?|mins?|m|seconds?|secs?|s)\s*)+)"
)
_PIECE = re.compile(r"(\d+(?:\.\d+)?)\s*(milliseconds?|ms|h|m|s)", re.IGNORECASE)
_UNITS = {"ms": 0.001, "h": 3600.0, "m": 60.0, "s": 1.0}


def wait_in(text: str) -> float | None:
    """Return the seconds of "Please try again in 7m12s", "retry after 20 seconds"; None where nothing is said."""
    found = _WAIT.search(text)
    return None if found is None else duration(found[1])


def duration(text: str) -> float | None:
    """Return the seconds of "6.2s", "644ms", "1h2m3s", "20 seconds"; None where it is none."""
    pieces = _PIECE.findall(text)
    if not pieces:
        return None
    units = [(float(number), "ms" if unit.lower().startswith("milli") else unit.lower()) for number, unit in pieces]
    return sum(number * _UNITS[unit] for number, unit in units)


# Codes and types that stand for a status, as servers spell them, less case, separators and a last "Error" or
# "Exception". The first line that one of an error's words is in counts: a type is often only "invalid_request_error".
_STATUS_WORDS = (
    (429, {"ratelimitexceeded", "ratelimit", "ratelimited", "toomanyrequests", "resourceexhausted", "throttling",
           "userratelimitexceeded"}),
    (503, {"overloaded", "engineoverloaded", "serviceunavailable", "unavailable", "modelnotready", "nocapacity"}),
    (504, {"timeout", "deadlineexceeded", "upstreamtimeout", "gatewaytimeout", "requesttimeout",
           "vectorstoretimeout"}),
    (401, {"authentication", "unauthenticated", "unauthorized", "invalidapikey"}),
    (404, {"notfound", "modelnotfound"}),
    (403, {"permission", "permissiondenied", "forbidden"}),
    (413, {"requesttoolarge"}),
    (500, {"server", "internal", "internalserver", "api", "upstream", "provider", "badgateway"}),
    (400, {"invalidrequest", "badrequest", "invalidargument", "validation", "invalidprompt", "invalidimage",
           "invalidimageformat", "invalidbase64image", "invalidimageurl", "invalidimagemode", "imagetoolarge",
           "imagetoosmall", "imageparse", "imagefiletoolarge", "unsupportedimagemediatype", "emptyimagefile",
           "failedtodownloadimage", "imagefilenotfound"}),  # a response's that has failed
)  # fmt: skip
_SEPARATORS = re.compile(r"[\s_.-]+")
_LAST_WORD = re.compile(r"(?:error|exception)$")
_INTERNAL = frozenset({"500", "internalservererror", "internalerror", "internal", "error", "exception"})
_TOO_MANY = _any(
    r"too many requests",
    r"rate.?limit (?:is |was |has been )?(?:reached|exceeded|hit)",
    r"exceeded (?:a|the|your) (?:\w+ )?rate.?limit",
)


def status_in(codes: AbstractSet[str], text: str) -> int | None:
    """Return the HTTP status that an error without a number stands for, by its codes or its words; None for none."""
    folded = {_LAST_WORD.sub("", _SEPARATORS.sub("", code.casefold())) for code in codes}
    for status, words in _STATUS_WORDS:
        if folded & words:
            return status
    return 429 if _TOO_MANY.search(text) else None


def tells_nothing(code: str | None) -> bool:
    """Whether the code of a 500 says only that it is one. OpenAI's own, "server_error", is of what passes."""
    return code is None or _SEPARATORS.sub("", code.casefold()) in _INTERNAL


def names_model(code: str | None, text: str) -> bool:
    """Whether a refusal is for a model that is not there, or not for this key."""
    return NO_MODEL.search(f"{code} {text}") is not None


def class_of(status: int, codes: AbstractSet[str], text: str, *, flagged: bool = False) -> str | None:
    """Return the class by what codes and words say; None where the status alone decides.

    `codes`: code, type and inner codes of the error. `text`: its message. `flagged`: it has a moderation's members.
    """
    folded = {code.casefold() for code in codes}
    both = " ".join((*codes, text))
    if status == 402 and IN_FLIGHT.search(both):  # noqa: PLR2004
        return "rate_limited"
    if status < 500 and BILLING.search(both) and not (A_MINUTES_QUOTA.search(both) and ", limit: 0," not in both):  # noqa: PLR2004
        return "too_large" if TOO_DEAR.search(text) and "afford 0" not in text else "quota_exhausted"
    if status == 402:  # noqa: PLR2004
        return "too_large" if TOO_DEAR.search(text) else None
    if status == 429:  # noqa: PLR2004
        return _of_429(folded, text)
    if status in (400, 403, 413, 422, 500) or status < 300:  # noqa: PLR2004
        if folded & GENERATION_CODES:
            return "invalid_output"
        if folded & CONTEXT_CODES or CONTEXT.search(text):
            return "context_length"
        if folded & FILTER_CODES or flagged or FILTER.search(text):
            return "content_filter"
    if status in (400, 403, 422) and status_in(codes, text) == 429:  # noqa: PLR2004
        return "rate_limited"  # of servers that have another status for it
    if status in (400, 403) and NO_MODEL.search(both):
        return "not_found"
    if status in (400, 403) and WRONG_KEY.search(both):
        return "auth"
    if status == 404 and NOT_FOR_THIS_ROW.search(text):  # noqa: PLR2004
        return "invalid_request"
    if status == 500 and NOT_VALID.search(text):  # noqa: PLR2004
        return "invalid_request"
    if (status < 300 or status == 500 or (400 <= status < 500 and status not in _PLAIN)) and OVERLOADED.search(both):  # noqa: PLR2004
        return "overloaded"
    return None


def _of_429(folded: AbstractSet[str], text: str) -> str | None:
    limit, requested = LIMIT.search(text), REQUESTED.search(text)
    if (_count(requested[1]) > _count(limit[1])) if limit and requested else _is_too_large(text):
        return "too_large"
    if "slow_down" in folded:
        return "slow_down"
    return "overloaded" if OVERLOADED.search(text) else None


def _is_too_large(text: str) -> bool:
    """Whether a 429 is for the size of the one request."""
    if TOO_LARGE.search(text):
        return True
    own = OWN.search(text) and OF_A_SIZE.search(text) and not OF_A_RATE.search(text)
    sizes = MORE_THAN.search(text) if own else None
    return sizes is not None and _count(sizes[1]) > _count(sizes[2])


def _count(digits: str) -> int:
    return int(digits.replace(",", "")[:20])
