"""The simulator's words: what it says to a question, and how long it is. Tokens are characters / 4."""

from hashlib import blake2b
from math import cos, exp, log, sqrt, tau

CHARS_PER_TOKEN = 4
FILTERED = "[[filter]]"  # a user message with this is refused by the content filter
REFUSED = "[[refuse]]"  # a user message with this is answered by a refusal
REFUSAL = "I can't help with that."

_LENGTH_SIGMA = 0.8  # of the log-normal length of replies: one in twenty is more than three times the median
_HEAD_CHARS = 600  # of a message: enough for the words of a summary, cheap for a 10 MB row
_WORDS = 12
_FILLER = "It is told here at the length that was asked for, and so it goes on for a while. "


def digest(text: str) -> str:
    """Eight hex digits of a user message. The reply to it ends in `[digest]`, unless `max_tokens` cut it."""
    return blake2b(text.encode(), digest_size=4).hexdigest()


def tokens(chars: int) -> int:
    """Count the tokens of a text of so many characters."""
    return max(1, chars // CHARS_PER_TOKEN)


def telling(question: str, words: int = _WORDS) -> str:
    """Pick the first words of a question that tell it from others, on one line."""
    head = question[:_HEAD_CHARS]
    # Rows of one run share their instruction ("Summarise this:"): what follows it makes the more telling line.
    _, _, after = head.partition(":\n")
    return " ".join((after.strip() or head).split()[:words])


def summary(question: str) -> str:
    """Answer a question in one line that ends in its digest."""
    return f"In short: {telling(question)} [{digest(question)}]"


def length(mark: bytes, mean_tokens: float) -> int:
    """Draw a reply's tokens from a body's fingerprint alone, by the Box-Muller transform."""
    one = (int.from_bytes(mark[8:12]) + 1) / 2**32  # above 0: its logarithm is taken
    other = int.from_bytes(mark[12:16]) / 2**32
    normal = sqrt(-2 * log(one)) * cos(tau * other)
    return max(1, round(mean_tokens * exp(_LENGTH_SIGMA * normal - _LENGTH_SIGMA**2 / 2)))


def fitted(text: str, chars: int) -> str:
    """Make a text so many characters long, by more words or fewer. The digest at its end stays, if it has room."""
    words, _, mark = text.rpartition(" ")
    room = chars - len(mark) - 1
    if room > len(words):
        words += " " + _FILLER * (room // len(_FILLER) + 1)
    return f"{words[:room]} {mark}" if room > 0 else mark[:chars]
