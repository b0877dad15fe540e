"""How many tokens a reply may have, by what a server says that has refused more."""

import re

from rowmill.core.wire import Failure

_CLASSES = frozenset({"invalid_request", "too_large", "context_length"})
_NUMBER = re.compile(r"(?<![\w.])\d{1,3}(?:,\d{3})+(?!\w|,\d)|(?<![\w.])\d+(?!\w)")
_CONTEXT = re.compile(r"context (?:length|window|size)\D{0,40}?([\d,]+)", re.IGNORECASE)


def may_be_for_want_of_room(failure: Failure) -> bool:
    """Whether a request may have been refused because its reply was to have more tokens than the server gives."""
    return failure.fault.name in _CLASSES


def room_in(failure: Failure, *, above: int, below: int, prompt: int) -> int:
    """Return the tokens that a reply may have, more than `above` and fewer than `below`; 0 where that cannot be told.

    prompt: tokens of the prompt, for who says how many it has for both.
    """
    context = _CONTEXT.search(failure.message)
    if context is not None:
        room = _count(context[1]) - prompt
        return room if prompt and above < room < below else 0
    named = {number for found in _NUMBER.findall(failure.message) if above < (number := _count(found)) < below}
    return named.pop() if len(named) == 1 else 0


def _count(digits: str) -> int:
    return int(digits.replace(",", "")[:18] or 0)
