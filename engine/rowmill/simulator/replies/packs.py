"""Several prompts in one request: a user message that is a JSON list of `{"id": ..., "prompt": ...}`.

It is read so where the schema of the reply has an array "answers" of objects with "id" and "answer". Every prompt
gets the answer that it would get alone.
"""

from collections.abc import Iterable
from typing import Any

import msgspec


class Prompt(msgspec.Struct):
    """One prompt of a pack."""

    id: Any
    prompt: str


_decoder = msgspec.json.Decoder(list[Prompt])


def prompts(texts: Iterable[str]) -> list[Prompt] | None:
    """Read the first of the texts that is a pack; None where none is."""
    for text in texts:
        if text.lstrip()[:1] == "[":
            try:
                return _decoder.decode(text) or None
            except msgspec.DecodeError:
                continue
    return None
