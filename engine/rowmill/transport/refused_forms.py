"""Which part of the form of a request a server refuses: what would be refused of every row, and can be asked otherwise.

By the words of servers, as `refusals` has them of classes; the tests have each with its source
(`tests/transport/refusal_shapes.jsonl`). What a server has against one row's content names none of these members.
"""

import re
from functools import cache

from rowmill.core.request_form import FormPart, RequestForm
from rowmill.core.wire import Failure

# llama.cpp and others answer with a 500, DeepInfra with a 405, and gateways with a 200.
_CLASSES = frozenset({"invalid_request", "not_found", "server_error", "bad_reply"})
_REFUSALS = range(400, 500)  # statuses that are refusals; of others the words must say, too, that something is refused
_BETWEEN = r".{0,200}?"
_REFUSED = (
    r"(?:\bnot? (?:currently |yet |longer )?(?:support|available|allow|permitted|one of|implemented|enabled|valid)"
    r"|n't (?:support|allow|have)|unsupported|unavailable|must be|must have|should be|unrecognized|unknown|unexpected"
    r"|invalid|not permitted|failed to (?:deserialize|parse|compile|load)|leave it unset|extra inputs|extra_forbidden"
    r"|cannot (?:be used|use)|contains features|too (?:many states|complex)|\bonly\b|literal_error|disabled|requires?\b"
    r"|conversion failed)"
)
# No other member of a request that Rowmill sends is called so: who names one has that against it.
_FORMAT = (
    r"(?:response[_ ]?format|json[_ -]?schema|json_object|json mode|structured[ _-]?outputs?|text\.format|output_config"
    r"|guided[_ ](?:json|decoding)|response_?schema|json output)"
)
_TOOL_MEMBERS = r"(?:\btools\b|\btool[_ ](?:choice|calls?|calling|use)\b|\bfunction[_ ]call\w*\b)"
_NO_ENDPOINTS = r"no endpoints found that (?:can handle|support) the requested parameters"  # OpenRouter
_USAGE = "stream_options|include_usage"
_STREAM = (
    r"(?<![\w-])\W?stream(?:s|ed|ing)?\b(?!\W{0,5}(?:to |set |be |is |=|:|as )*\W{0,3}(?:false|disabled|off)\b)(?!_)"
)
_WHOLE = (
    r"\bnon[-_ ]?stream"
    rf"|{_STREAM}\W{{0,3}}(?:(?:mode|parameter|value|field|option)\W{{1,3}})?"
    r"(?:must|has to|needs to|should|is required to|input should) be\W{1,3}(?:set to .{0,3}|equal to .{0,3})?"
    r"(?:true|enabled|on\b)"
    r"|(?:must|please|have to|needs? to|should|required to|enable|set|use)\s+"
    rf"(?:(?:be|have|set|use|enable)\s+)*(?:the\s+)?{_STREAM}"
    rf"|\bonly\b(?: [\w()/=-]+){{0,4}}? {_STREAM}"
    rf"|{_STREAM}(?:\W{{1,3}}(?:true|mode|parameter|output))*\W{{1,3}}(?:is|are) (?:required|mandatory|needed|strongly)"
    rf"|\brequires? (?:the )?{_STREAM}"
    r"|\bstream\W{0,3}(?:=|:|does not support|cannot be|is)\W{0,3}false\b.{0,40}(?:not|n't|unsupported|with this model)"
    r"|\bstream only supports? true"
    r"|\bstream\W{0,3}\S{0,4}必须"  # Alibaba, in Chinese
)


def _either(*subjects: str, refused: str) -> str:
    """Return what finds one of these words, or others that are heard often, beside words of refusing."""
    return "|".join((*subjects, f"{refused}{_BETWEEN}{_REFUSED}", f"{_REFUSED}{_BETWEEN}{refused}"))


_ANY_SCHEMA = (_NO_ENDPOINTS, r"input should be 'text'", "schema produces a constraint")
_GRAMMAR = r"(?:\bgrammar\b|\bfor format\b|\binvalid format\b|\bschema is too)"  # what servers make of a schema
# By a status of the client's fault: by the words of refusing, or by the member's name alone.
_NAMED = {
    "json_schema": _either(*_ANY_SCHEMA, _FORMAT, refused=_GRAMMAR),
    "json_object": _either(*_ANY_SCHEMA, _FORMAT, refused=_GRAMMAR),
    "tool": _either(
        _NO_ENDPOINTS, "no endpoints found that support tool", _TOOL_MEMBERS, refused=r"\b(?:tool|function)s?\b"
    ),
}
_SAID = {
    "json_schema": _either(*_ANY_SCHEMA, refused=f"(?:{_FORMAT}|{_GRAMMAR})"),
    "json_object": _either(*_ANY_SCHEMA, refused=f"(?:{_FORMAT}|{_GRAMMAR})"),
    "tool": _either(refused=f"(?:{_TOOL_MEMBERS}|\\b(?:tool|function)s?\\b)"),
}


def refused_part(failure: Failure, form: RequestForm) -> FormPart | None:
    """Return the part of a request of this form that a failure is a refusal of; None for any other failure."""
    if failure.fault.name not in _CLASSES or failure.status is None or failure.about_row:
        return None
    said = f"{failure.param or ''} {failure.message}"
    if form.stream and form.usage and _found(_USAGE, said):
        return "usage"
    if not form.stream and _found(_WHOLE, failure.message):
        return "whole"
    pattern = (_NAMED if failure.status in _REFUSALS else _SAID).get(form.schema)
    return "schema" if pattern is not None and _found(pattern, said) else None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


def _found(pattern: str, text: str) -> bool:
    """Whether a text has what a pattern says, which is compiled once somebody asks: all take 5 ms of a start."""
    return _compiled(pattern).search(text) is not None
