"""Which part of the form of a request a server refuses: what would be refused of every row, and can be asked otherwise.

By the words of servers, as `refusals` has them of classes; the tests have each with its source
(`tests/transport/refusal_shapes.jsonl`). What a server has against one row's content names none of these members.
"""

import re
from functools import cache

from rowmill.core.request_form import FormPart, RequestForm
from rowmill.core.wire import Failure

# llama.cpp and others answer with a 500, DeepInfra with a 405.
_CLASSES = frozenset({"invalid_request", "not_found", "server_error"})
_BETWEEN = r".{0,200}?"
_REFUSED = (
    r"(?:\bnot? (?:currently |yet |longer )?(?:support|available|allowed|permitted|one of|implemented|enabled|valid)"
    r"|n't support|n't allowed|unsupported|unavailable|must be|must have|should be|unrecognized|unknown|unexpected"
    r"|invalid|not permitted|failed to (?:deserialize|parse)|leave it unset|extra inputs|extra_forbidden"
    r"|cannot be used|contains features|too many states|only supports?\b|literal_error)"
)
_FORMAT = (
    r"(?:response[_ ]?format|json[_ -]?schema|json_object|json mode|structured[ _-]?outputs?|text\.format|output_config"
    r"|guided[_ ](?:json|decoding)|response_?schema)"
)
_TOOL = r"(?:\btools?\b|\btool_choice\b|\bfunction(?:s|[_ ]call\w*)?\b)"
_USAGE = "stream_options|include_usage"


def _against(subject: str, *more: str) -> str:
    return "|".join((f"{subject}{_BETWEEN}{_REFUSED}", f"{_REFUSED}{_BETWEEN}{subject}", *more))


_SCHEMA = {
    "json_schema": _against(_FORMAT, r"input should be 'text'", r"schema produces a constraint"),
    "json_object": _against(_FORMAT, r"input should be 'text'"),
    "tool": _against(_TOOL),
}
_WHOLE = (
    r"\bstream\b\W{1,3}(?:mode |parameter |value )?(?:must|has to|needs to|should) be "
    r"(?:set to .{0,3}true|enabled|on\b|.{0,3}true)"
    r"|must (?:have|set|use|enable) .?stream(?:ing)?\b.{0,5}(?:true|mode)?"
    r"|only (?:support\w*|allow\w*|accept\w*|available (?:in|with|as|for))\s+(?:the )?.?stream(?:s|ing|ed)?\b"
    r"|non-?_?stream\w*(?: \w+){0,3}? (?:is|are|was|calls|requests|responses|mode)\b.{0,30}\bnot\b"
    r"|non-streaming calls?\b"
    r"|stream\W{0,3}(?:=|:| does not support)\W{0,2}false\b.{0,30}"
    r"(?:not (?:supported|allowed)|with this model|unsupported)"
    r"|(?:enable|set|use) (?:the )?.?stream(?:ing)?.? (?:parameter|mode)\b"
    r"|\bstreaming is (?:required|mandatory|strongly)|requires? (?:.?stream\W{0,3}true|streaming)\b"
)


def refused_part(failure: Failure, form: RequestForm) -> FormPart | None:
    """Return the part of a request of this form that a failure is a refusal of; None for any other failure."""
    if failure.fault.name not in _CLASSES or failure.status is None or failure.about_row:
        return None
    said = f"{failure.param or ''} {failure.message}"
    if form.stream and form.usage and _found(_USAGE, said):
        return "usage"
    if not form.stream and _found(_WHOLE, failure.message):
        return "whole"
    pattern = _SCHEMA.get(form.schema)
    return "schema" if pattern is not None and _found(pattern, said) else None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


def _found(pattern: str, text: str) -> bool:
    """Whether a text has what a pattern says, which is compiled once somebody asks: all take 5 ms of a start."""
    return _compiled(pattern).search(text) is not None
