"""What becomes of requests at a server at its worst, how often, and what the servers of a long run have seen of it."""

import mmap
from bisect import bisect
from itertools import accumulate
from pathlib import Path
from typing import Literal, NamedTuple

# What a request comes to: a valid reply, an error by its status, a connection that is lost, or silence.
End = Literal["answered", "refused", "lost", "late"]


class Fate(NamedTuple):
    """What may become of a request. share: of those of which it may become so."""

    name: str
    share: float
    end: End


USUAL = "one segment"
FATES = (
    Fate("chunked", 0.02, "answered"),
    Fate("odd pieces", 0.01, "answered"),
    Fate("byte by byte", 0.0002, "answered"),
    Fate("1xx before", 0.01, "answered"),
    Fate("gzip", 0.005, "answered"),
    Fate("1.5 MB", 0.00005, "answered"),
    Fate("reads no more for a while", 0.001, "answered"),
    Fate("connection: close", 0.005, "answered"),
    Fate("HTTP/1.0", 0.001, "answered"),
    Fate("no length", 0.002, "answered"),
    Fate("another reply behind", 0.0005, "answered"),
    Fate("FIN behind", 0.002, "answered"),
    Fate("FIN while idle", 0.002, "answered"),
    Fate("reset behind", 0.001, "answered"),
    Fate("500", 0.001, "refused"),
    Fate("503", 0.001, "refused"),
    Fate("reset before", 0.002, "lost"),
    Fate("reset within", 0.002, "lost"),
    Fate("FIN before", 0.002, "lost"),
    Fate("FIN in a chunk", 0.002, "lost"),
    Fate("FIN within", 0.001, "lost"),
    Fate("no HTTP", 0.0002, "lost"),
    Fate("silence", 0.0002, "late"),
    Fate("silence within", 0.0001, "late"),
    Fate("trickle without end", 0.0001, "late"),
)
# Of requests that come in many pieces, so that something can become of them before they are there.
EARLY_FATES = (
    Fate("read slowly", 0.4, "answered"),
    Fate("early 503", 0.1, "refused"),
    Fate("early 500 and FIN", 0.1, "refused"),
    Fate("reset while it comes", 0.1, "lost"),
    Fate("never read", 0.02, "late"),
)
ENDS: dict[str, End] = {USUAL: "answered", **{fate.name: fate.end for fate in FATES + EARLY_FATES}}
_SUMS, _EARLY_SUMS = (tuple(accumulate(fate.share for fate in fates)) for fates in (FATES, EARLY_FATES))
# begun: requests of which a byte has come. no request: what is no HTTP. stray: what came while a reply was on its way.
_COUNTED = ("begun", "no request", "stray", "connections", *ENDS)


def fate(drawn: float) -> str:
    """Return what becomes of a request, by a number from 0 to 1."""
    return FATES[bisect(_SUMS, drawn)].name if drawn < _SUMS[-1] else USUAL


def early_fate(drawn: float) -> str:
    """Return the same for one of which there is only the beginning."""
    return EARLY_FATES[bisect(_EARLY_SUMS, drawn)].name if drawn < _EARLY_SUMS[-1] else USUAL


class Seen:
    """What a server has seen in all its lives, in a file that outlives each: killed at once, it has counted all.

    rows: how often each row was asked for, up to 255.
    """

    def __init__(self, path: Path, rows: int) -> None:
        """Open the file, or make it."""
        head = 8 * len(_COUNTED)
        if not path.exists():
            path.write_bytes(bytes(head + rows))
        with path.open("r+b") as file:
            view = memoryview(mmap.mmap(file.fileno(), 0))
        self._counts = view[:head].cast("Q")
        self.rows = view[head:]

    def count(self, name: str) -> None:
        """Count one more."""
        self._counts[_NUMBERS[name]] += 1

    def by_name(self) -> dict[str, int]:
        """Return the counts."""
        return dict(zip(_COUNTED, self._counts, strict=True))

    def by_end(self) -> dict[End, int]:
        """Return what requests have come to, as far as the server has to do with it."""
        ends: dict[End, int] = dict.fromkeys(("answered", "refused", "lost", "late"), 0)
        for name, seen in self.by_name().items():
            if name in ENDS:
                ends[ENDS[name]] += seen
        return ends


_NUMBERS = {name: number for number, name in enumerate(_COUNTED)}
