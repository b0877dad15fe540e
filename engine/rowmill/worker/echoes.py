"""What an answer says beside its content, without the run's secrets: a gateway may name its caller's key as the model.

The content stays as it is: it was paid for, and a row may be about a text like that.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from rowmill.core.wire import Answer
from rowmill.transport import faults

_MOST = 1000  # a server may name its model anew in each reply
_TEXT = re.compile(rb'[:,[]\s*"[^"]*"\s*[],}]')  # in a usage, a text that is no member's name


def cleared(answer: Answer, secrets: Iterable[str], plain: set[bytes]) -> Answer:
    """Return an answer with none of the secrets in its model, its reason to finish and its usage.

    plain: models and reasons, as JSON, that hold none, so that they need not be looked at again; more are added, unless
    the usage beside them has texts: it is numbers nearly everywhere, and to search each would cost 1% of a row.
    """
    said = {"model": answer.model, "finish_reason": answer.finish_reason, "usage": answer.usage}
    clean = {name: _cleared(text, tuple(secrets)) for name, text in said.items()}
    if clean != said:
        return msgspec.structs.replace(answer, **clean)
    if len(plain) < _MOST and not _TEXT.search(answer.usage):
        plain.update((answer.model, answer.finish_reason))
    return answer


def _cleared(text: bytes, secrets: tuple[str, ...]) -> bytes:
    try:
        value = json.loads(text)
        clean = _without(value, secrets)
    except (ValueError, RecursionError):  # a number of thousands of digits, as only a server without sense sends it
        return b"null" if any(secret.encode() in text for secret in secrets) else text
    return text if clean == value else json.dumps(clean).encode()


def _without(value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return faults.redacted(value, secrets)
    if isinstance(value, dict):
        return {_without(key, secrets): _without(each, secrets) for key, each in value.items()}
    return [_without(each, secrets) for each in value] if isinstance(value, list) else value
