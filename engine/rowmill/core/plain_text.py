"""Text of others, made fit to be shown: what a server sent must steer no terminal, forge no line and fill no log."""

import os

MOST_BYTES = 1024  # of one text of a server, in UTF-8: enough to understand; an HTML page is not worth keeping
_SPACES = frozenset("\t\n\v\f\r\x85\u2028\u2029")


def one_line(text: str) -> str:
    """Return the text with a space for each line break, control character and mark of direction."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else " " for character in text)


def stripped(text: str) -> str:
    """Return the text in one line, without what nobody sees: C0, C1, marks of direction and of no width, surrogates.

    They are taken out and not replaced, so that a word with some in it can be found as the word that it is.
    """
    if text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def place_of(path: "str | os.PathLike[str]") -> str:
    """Return where a file really lies, as text that can be written down whatever bytes are in its name."""
    return os.fsencode(os.path.realpath(path)).decode("utf-8", "backslashreplace")


def clipped(text: str) -> str:
    """Return the first KiB of the text."""
    if len(text) * 4 <= MOST_BYTES or len(encoded := text.encode("utf-8", "replace")) <= MOST_BYTES:
        return text
    return encoded[: MOST_BYTES - 3].decode("utf-8", "ignore") + "…"


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character in _SPACES or (character.isspace() and character > "\x7f") else ""
