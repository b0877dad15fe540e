"""The most tokens that a reply may have, as a request says it, whatever its API or server calls that."""

import msgspec

from rowmill.tasks.replies import NULL
from rowmill.tasks.rows import UNREADABLE, encode

_NAMES = ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_new_tokens")


class _Capped(msgspec.Struct, gc=False):
    max_completion_tokens: msgspec.Raw = NULL
    max_tokens: msgspec.Raw = NULL
    max_output_tokens: msgspec.Raw = NULL
    max_new_tokens: msgspec.Raw = NULL


def cap_in(body: bytes) -> int:
    """Return the most tokens that the reply to a request may have; 0 where it does not say."""
    try:
        said = _decode_capped(body)
    except UNREADABLE:
        return 0
    return max(_count(getattr(said, name)) for name in _NAMES)


def with_cap(body: bytes, tokens: int) -> bytes:
    """Return a request whose reply may have so many tokens: what bounds it is changed, and nothing is added."""
    members = _decode_members(body)
    for name in _NAMES:
        if _count(members.get(name)):
            members[name] = msgspec.Raw(b"%d" % tokens)
    return encode(members)


def _count(raw: msgspec.Raw | None) -> int:
    text = b"" if raw is None else bytes(raw).strip()
    return int(text) if text.isdigit() and len(text) <= 18 else 0  # noqa: PLR2004 - as a number of 64 bits


_decode_capped = msgspec.json.Decoder(_Capped).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
