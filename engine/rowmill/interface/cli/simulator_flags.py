"""The flags of `rowmill simulate`, read off the type of the simulator's settings: a field's name and type say them all.

Only `providers`, a table of tables, is left to the configuration.
"""

import argparse
from math import inf
from typing import Any, get_args, get_origin

from msgspec.structs import FieldInfo, fields

from rowmill.core.simulator import NOT_NEGATIVE, SimulatorSettings

_FIELDS = [field for field in fields(SimulatorSettings) if field.name != "providers"]
_HELP = {
    "latency_ms": "median reply time (default: %(default)g)",
    "latency_sigma": "its log-normal spread (default: %(default)g)",
    "per_token_ms": "added for each token of the reply (default: %(default)g)",
    "reply_tokens": "mean length of replies (default: one line)",
    "requests_per_minute": "enforce this limit, strictly",
    "tokens_per_minute": "enforce this limit, strictly",
    "parallel": "work on so many requests at a time; the others wait in line",
    "queue": "let at most so many wait in that line; answer 429 to more",
    "knee": "grow slower, by the square of the load, with more in flight",
    "limit_headers": "do not tell limits in x-ratelimit headers",
    "retry_after": "do not tell when to come back after a 429",
    "faults": "let this share of requests fail so",
    "content_faults": "damage the content of this share of replies so",
    "script": "what the first requests meet, in order; ok for no fault",
    "refuse": "do not take these of a request: whole (replies), stream_options, json_schema, json_object, tools",
    "batch_s": "from a batch's creation until it is completed (default: %(default)g)",
    "batch_script": "what becomes of the first batches, in order; ok for no fault",
    "upload_script": "what becomes of the first files uploaded, in order",
    "batch_faults": "let this share of the lines of batches fail so",
    "batch_enqueued_tokens": "fail batches that enqueue more prompt tokens at a time",
    "batches": "have no Batch API: answer 404 to files and batches",
    "state": "keep files and batches there; default: a temporary directory",
    "hang_s": "how long a hung request is held (default: %(default)g)",
    "seed": "of latencies and faults (default: %(default)g)",
}
_EXAMPLES = {"faults": "500=0.01", "content_faults": "extra-prose=0.05", "batch_faults": "missing=0.01"}
_WORDS = "WORD,WORD,..."
_METAVARS = {
    "script": "NAME,NAME,...",
    "refuse": _WORDS,
    "batch_script": _WORDS,
    "upload_script": _WORDS,
    "state": "DIR",
}


def add_flags(command: argparse.ArgumentParser) -> None:
    """Let the command have a flag for each setting."""
    for field in _FIELDS:
        flag, about = _flag(field), _HELP[field.name]
        if field.type is bool:
            how: dict[str, Any] = {"action": "store_false"}
        elif get_origin(field.type) is dict:
            how = {"action": "append", "default": [], "metavar": "NAME=SHARE"}
            about += f", as in {flag} {_EXAMPLES[field.name]} (may be repeated)"
        elif get_origin(field.type) is tuple:
            how = {"type": _words, "default": field.default, "metavar": _METAVARS[field.name]}
        elif field.name in NOT_NEGATIVE:
            how = {"type": _not_negative, "default": field.default}
        else:  # a number or a text, or None where it is not given
            kind = next(iter(get_args(field.type)), field.type)
            how = {"type": kind, "default": field.default, "metavar": _METAVARS.get(field.name)}
        command.add_argument(flag, dest=field.name, help=about, **how)


def settings(options: argparse.Namespace) -> SimulatorSettings:
    """Return the settings that the flags mean. Raises ValueError, which names the flag."""
    values = {field.name: getattr(options, field.name) for field in _FIELDS}
    for field in _FIELDS:
        if get_origin(field.type) is dict:
            values[field.name] = dict(_share(field, text) for text in values[field.name])
    return SimulatorSettings(**values)


def _flag(field: FieldInfo) -> str:
    name = field.name.replace("_", "-")
    if get_origin(field.type) is dict:
        return f"--{name.removesuffix('s')}"  # each has one of them
    return f"--no-{name}" if field.type is bool else f"--{name}"


def _share(field: FieldInfo, text: str) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    try:
        if name:
            return name, float(number)
    except ValueError:
        pass
    raise ValueError(f"{_flag(field)} {text}: write it as NAME=SHARE, for example {_EXAMPLES[field.name]}")


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def _not_negative(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 0 or more")
    return number
