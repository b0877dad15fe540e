"""Parameters of requests that are named like keys, as some gateways want them: what stands for them where it is kept.

They are sent as they are. In the manifest a digest stands in their place, so that a resume with another one is told.
Where a command line is shown again, what was typed of them is left out.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any
from urllib.parse import quote

_LIKE_A_KEY = re.compile(r"(?:key|token|secret|passw(?:or)?d|authorization|credentials?|signature)\Z", re.IGNORECASE)
_HIDDEN = re.compile(r"\[hidden [0-9a-f]{16}\]")
_MEMBER = re.compile(
    r"""((?:key|token|secret|passw(?:or)?d|authorization|credentials?|signature)["']?\s*[=:]\s*["'])[^"']+""",
    re.IGNORECASE,
)
_OF_QUERY = re.compile(
    r"([?&][^=&\s]*(?:key|token|secret|passw|auth|sig|credential)[^=&\s]*=)[^&\s\"']+", re.IGNORECASE
)
_USER = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_WHOLLY = frozenset({"notify.webhook", "notify.command"})  # keys whose values may be secrets whatever they say
_LEFT_OUT = "..."
_SHORTEST = 6  # characters of what is like a key: to take out shorter ones would spoil every message
# Of the code of a text behind so many bytes: where what depends on the text alone begins.
_STARTS = (0, 2, 3)


def hidden(value: Any, name: str = "") -> Any:
    """Return a parameter with digests for the texts in it that are named like keys. Digests stay as they are."""
    if isinstance(value, str):
        if not like_a_key(name) or _HIDDEN.fullmatch(value):
            return value
        return f"[hidden {blake2b(value.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}]"
    if isinstance(value, Mapping):
        return {key: hidden(each, str(key)) for key, each in value.items()}
    if isinstance(value, list):
        return [hidden(each, name) for each in value]
    return value


def like_a_key(name: str) -> bool:
    """Tell whether what is named so may be a secret."""
    return _LIKE_A_KEY.search(name) is not None


def keys_in(value: Any, name: str = "") -> Iterator[str]:
    """Yield the texts in a parameter that are named like keys."""
    if isinstance(value, str):
        if like_a_key(name) and len(value) >= _SHORTEST:
            yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from keys_in(each, str(key))
    elif isinstance(value, list):
        for each in value:
            yield from keys_in(each, name)


def typed(change: str) -> str:
    """Return a "section.key=value" text as it may be shown: without what is like a key."""
    key, _, value = change.partition("=")
    parts = [part.strip(" \"'") for part in key.split(".")]
    if "headers_env" in parts:  # names of variables
        return change
    if _LIKE_A_KEY.search(parts[-1]) or "headers" in parts[:-1] or ".".join(parts) in _WHOLLY:
        return f"{key}={_LEFT_OUT}"
    if parts[-1] == "headers":  # as a table
        value = re.sub(r"""([=:]\s*)("[^"]*"|'[^']*')""", rf"\1{_LEFT_OUT}", value)
    if not value:
        return change
    without = _MEMBER.sub(rf"\1{_LEFT_OUT}", value)
    return f"{key}={url(without)}"


def url(text: str) -> str:
    """Return a text with what may be secrets in its URLs left out: users with their passwords, and keys in queries."""
    return _OF_QUERY.sub(rf"\1{_LEFT_OUT}", _USER.sub(_LEFT_OUT, text))


def encoded(secrets: Iterable[str]) -> Iterator[str]:
    """Yield each secret in other writings: in a URL, in JSON, in hexadecimal digits.

    And what is seen of it in base64, whatever stands before and behind it, as in `Basic dXNlcjprZXk=`.
    """
    for secret in secrets:
        data = secret.encode("utf-8", "surrogatepass")
        if len(data) < _SHORTEST:
            continue
        written = (quote(data, safe=""), quote(data), json.dumps(secret)[1:-1], data.hex())
        yield from (each for each in dict.fromkeys(written) if each != secret)
        for before, start in enumerate(_STARTS):
            code = base64.b64encode(bytes(before) + data).decode()
            rest = (before + len(data)) % 3
            seen = code[start : len(code) - (0, 3, 2)[rest]]
            yield seen
            if (other := seen.translate({ord("+"): "-", ord("/"): "_"})) != seen:  # as it stands in URLs
                yield other


def decoded(authorization: str) -> Iterator[str]:
    """Yield the user with the password, and the password, of a header `Basic ...`."""
    scheme, _, code = authorization.partition(" ")
    if scheme.lower() != "basic":
        return
    try:
        text = base64.b64decode(code + "=" * (-len(code) % 4)).decode()
    except ValueError:
        return
    password = text.partition(":")[2]
    yield from (each for each in (text, password) if len(each) >= _SHORTEST)
