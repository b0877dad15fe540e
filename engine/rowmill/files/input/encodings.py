"""Which encoding a text file has: turned into UTF-8 where it is told, and what is plainly another one is found out.

One row with broken bytes is one failed row. A file of another encoding has them wherever somebody wrote an accent, and
no character of more than a byte that is right: each of those rows would be a failed one, after hours. Such a file is
told by its first megabytes.
"""

import codecs
import re
from collections.abc import Iterable, Iterator

from rowmill.core.errors import InputError

_BOMS = {  # the longer ones first: that of UTF-32 begins like that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_HIGH = re.compile(rb"[\x80-\xff]+")
_ACCENTED = bytes(range(0xC0, 0xFF))  # letters of Western encodings, which may stand by themselves
_LONG = 1 << 12  # bytes that are not ASCII, one behind the other
_START = 512  # bytes by which UTF-16 without a mark is told
_LETTER = re.compile(rb"[A-Za-z]")
_STRAY = 3  # bytes that are no text by themselves
_MISHAPS = 4  # broken places for each right character: by chance two letters of Latin-1 are one of UTF-8
_SPARSE = 0.3  # of the bytes that are letters, how many at most are not ASCII in a Latin script


def is_utf8(codec: str) -> bool:
    """Tell whether this name means UTF-8."""
    return codecs.lookup(codec).name in ("utf-8", "utf-8-sig")


def is_wide(codec: str) -> bool:
    """Tell whether this is an encoding of two or four bytes a character."""
    return codecs.lookup(codec).name.startswith(("utf-16", "utf-32"))


def as_utf8(blocks: Iterable[bytes], path: str, codec: str) -> Iterator[bytes]:
    """Yield a file's blocks in UTF-8. Bytes that the encoding does not have stay what they are, for their row to fail.

    Raises `InputError` where it cannot be gone on.
    """
    decoder = codecs.getincrementaldecoder(codec)("surrogateescape")
    position = 0
    try:
        for block in blocks:
            if text := decoder.decode(block):
                yield text.encode(errors="surrogateescape")
            position += len(block)
        if text := decoder.decode(b"", final=True):
            yield text.encode(errors="surrogateescape")
    except UnicodeError:
        raise InputError(f"{path}: near byte {position}: is no {codec}; set input.encoding to what it is") from None


def wide(head: bytes) -> str | None:
    """Return the encoding of a text of two or four bytes a character, by its first bytes; None where it is none."""
    for mark, name in _BOMS.items():
        if head.startswith(mark):
            return name
    start = head[:_START]
    if len(start) >= 4 and b"\0" in start:  # noqa: PLR2004 - two characters
        # Of what is mostly ASCII every other byte is a null.
        even, odd = start[::2].count(0) / len(start[::2]), start[1::2].count(0) / len(start[1::2])
        if odd > 0.4 and even < 0.1:  # noqa: PLR2004
            return "utf-16-le"
        if even > 0.4 and odd < 0.1:  # noqa: PLR2004
            return "utf-16-be"
    return None


def refuse_other(path: str, blocks: Iterable[bytes]) -> None:
    """Raise `InputError` where the first bytes of a text, in blocks, show that it is another encoding than UTF-8."""
    seen = _Seen()
    for block in blocks:
        seen.look(block)
    if not seen.is_other:
        return
    advice = (
        'set input.encoding = "cp1252" if it is of Windows or Excel in a western language, else to what it is'
        if seen.is_latin
        else 'set input.encoding to what it is, as "cp1251", "shift_jis", "gb18030" or "euc_kr"'
    )
    raise InputError(
        f"{path}: line {seen.line}: byte {seen.place} (0x{seen.byte:02x}) is no UTF-8, nor is what else is not ASCII; "
        f'{advice}; with "utf-8" such rows fail one by one'
    )


class _Seen:
    """What was seen of a text: characters beyond ASCII that are right, and bytes that are no UTF-8."""

    def __init__(self) -> None:
        self.line = self.place = self.byte = 0  # of the first broken byte
        self._right = self._broken = self._broken_bytes = self._high = self._letters = 0
        self._beside = False  # a letter stands beside the first broken bytes, as in a word
        self._cp1252, self._longest = True, 0
        self._offset, self._lines = 0, 1
        self._cut = b""  # of the last block, which may go on in the next one

    def look(self, block: bytes) -> None:
        """Look at the next bytes."""
        block = self._cut + block
        self._cut = b""
        if not block.isascii():
            for run in _HIGH.finditer(block):
                if not self._take(block, run):
                    break
            self._letters += len(_LETTER.findall(block)) if self._broken else 0
        stop = len(block) - len(self._cut)
        self._lines += block.count(b"\n", 0, stop)
        self._offset += stop

    def _take(self, block: bytes, run: re.Match[bytes]) -> bool:
        data = run[0]
        try:
            self._right += len(data.decode())
        except UnicodeDecodeError as error:
            if run.end() == len(block) and error.reason == "unexpected end of data" and len(data) < _LONG:
                self._cut = data
                return False
            self._broken += 1
            self._broken_bytes += len(data)
            if self._broken == 1:
                start = run.start() + error.start
                self.line = self._lines + block.count(b"\n", 0, start)
                self.place, self.byte = self._offset + start, block[start]
                beside = block[max(0, start - 1) : start] + block[run.end() : run.end() + 1]
                self._beside = _LETTER.search(beside) is not None or (len(data) == 1 and data in _ACCENTED)
        self._high += len(data)
        self._longest = max(self._longest, len(data))
        try:
            data.decode("cp1252")
        except UnicodeDecodeError:
            self._cp1252 = False
        return True

    @property
    def is_other(self) -> bool:
        """Whether it is text, and not UTF-8: neither one with broken rows in it, nor bytes that are no letters."""
        return self._broken > _MISHAPS * self._right and (self._beside or self._broken_bytes > _STRAY)

    @property
    def is_latin(self) -> bool:
        """Whether it can be of a western language: some letters beyond ASCII among many."""
        return self._cp1252 and (self._longest == 1 or self._high <= _SPARSE * (self._letters + self._high))
