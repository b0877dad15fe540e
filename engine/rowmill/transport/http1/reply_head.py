"""The head of a reply: its status line and headers, as they came, read when somebody asks for one.

Most replies are asked for one header at most, and one in ten seconds for all that tell limits: to take eight headers
apart costs as much as to parse the whole reply.
"""

import re

import msgspec

LARGEST = 64 << 10  # bytes of a head; a server that sends more does not come to an end
_END = re.compile(rb"\r?\n\r?\n")
_FOLD = re.compile(rb"\r?\n[ \t]+")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SETTINGS = re.compile(rb"\x00[\x00-\xff]{2}\x04[\x00\x01]\x00{4}", re.DOTALL)  # of HTTP/2: its first frame


class ReplyHead(msgspec.Struct, gc=False):
    """Looks up headers; see `core.wire.HeaderLookup`.

    raw: begins with the status line; what stands behind the head is of no matter.
    """

    raw: bytes
    fields: dict[str, str] | None = None  # once somebody has asked

    def __call__(self, name: str, /) -> str | None:
        """Return the header's value, of several the first one; None where it is absent."""
        fields = self.fields
        if fields is None:
            fields = self.fields = self._read()
            self.raw = b""
        return fields.get(name.lower())

    def _read(self) -> dict[str, str]:
        end = head_end(self.raw)
        fields: dict[str, str] = {}
        for line in _lines(self.raw[:end] if end >= 0 else self.raw)[1:]:
            name, _, value = line.partition(b":")
            fields.setdefault(name.strip().decode("latin-1").lower(), value.strip().decode("latin-1"))
        return fields


def head_end(raw: bytes) -> int:
    """Return where the first head in these bytes ends, behind its empty line; -1 where it does not."""
    end = raw.find(b"\r\n\r\n")
    if end >= 0 and b"\n\n" not in raw[:end]:
        return end + 4
    found = _END.search(raw)
    return found.end() if found else -1


def mended(raw: bytes) -> bytes | None:
    """Return a head that a strict parser has refused, and what stands behind it, as its server must have meant it.

    Gateways pass on the headers of another reply: a length beside a chunked body, or the same length twice. Lines
    that are no header are left out. None where it is no head, or says two things of its length.
    """
    end = head_end(raw)
    if end < 0 or not raw.startswith(b"HTTP/1."):
        return None
    status, *lines = _lines(raw[:end])
    kept, lengths, codings = [status], set(), []
    for line in lines:
        name, colon, value = line.partition(b":")
        name, value = name.strip(), value.strip()
        if not colon or not _NAME.fullmatch(name):
            continue
        lowered = name.lower()
        if lowered == b"content-length":
            lengths |= {each.strip() for each in value.split(b",") if value}  # one that is empty says nothing
        elif lowered == b"transfer-encoding":
            codings.append(value.lower())
        else:
            kept.append(name + b": " + value)
    if any(each.endswith(b"chunked") for each in codings):
        kept.append(b"transfer-encoding: chunked")
    elif len(lengths) > 1:
        return None
    else:
        kept += [b"content-length: " + each for each in lengths]
    return b"\r\n".join(kept) + b"\r\n\r\n" + raw[end:]


def speaks_http2(raw: bytes) -> bool:
    """Tell whether a server begins as one does that expects HTTP/2 and nothing else."""
    return _SETTINGS.match(raw) is not None


def _lines(head: bytes) -> list[bytes]:
    """Return the lines of a head, those that are folded as one."""
    return _FOLD.sub(b" ", head).rstrip(b"\r\n").replace(b"\r\n", b"\n").split(b"\n")
