"""How long a file of a batch's results may be: one that does not end must not become the machine's disk.

A result is a line for a request. What a provider writes beside them is little, and what it repeats is no news.
"""

_LINES = (10_000, 10)  # at most: always, and for each request
_BYTES = (1 << 30, 1 << 20)  # always, and for each row: a vector of 3,000 numbers has some 60 KB
_LINE_BYTES = 1 << 28  # a reply may have 64 MiB


class ResultsSize:
    """Counts what comes of one file."""

    def __init__(self, requests: int, rows: int) -> None:
        """Take what the batch had."""
        self._most_lines = _LINES[0] + _LINES[1] * requests
        self._most_bytes = _BYTES[0] + _BYTES[1] * rows
        self._requests = requests
        self._lines = self._bytes = self._line_bytes = 0

    def take(self, piece: bytes) -> str | None:
        """Count the next bytes; return what is too much, in words, as soon as anything is."""
        self._bytes += len(piece)
        self._lines += piece.count(b"\n")
        newline = piece.rfind(b"\n") + 1
        self._line_bytes = len(piece) - newline if newline else self._line_bytes + len(piece)
        if self._lines > self._most_lines:
            return f"more than {self._most_lines:,} lines for {self._requests:,} requests"
        if self._line_bytes > _LINE_BYTES:
            return f"a line of more than {_LINE_BYTES >> 20} MiB"
        if self._bytes > self._most_bytes:
            return f"more than {self._most_bytes >> 20:,} MiB for {self._requests:,} requests"
        return None
