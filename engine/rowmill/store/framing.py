"""A record on disk: eight hex digits of CRC-32, a space, JSON, a newline.

A torn write leaves a short line or nonsense bytes; the checksum finds both, where a JSON parser may not. The newline
lets a reader find the next record behind a broken one: JSON as written here holds none.
"""

from zlib_ng.zlib_ng import crc32

FORMAT = 2  # of everything in a run directory; named in each file's first or last record as "rowmill"
FRAME_BYTES = 9  # of a record before its JSON


def framed(json: bytes) -> bytes:
    """Return the record of a JSON text that holds no newline."""
    return b"%08x %b\n" % (crc32(json), json)


def unframed(record: bytes) -> bytes | None:
    """Return the JSON text of one whole line, its newline included; None where it is no valid record."""
    json = record[FRAME_BYTES:-1]
    if record[:FRAME_BYTES] == b"%08x " % crc32(json) and record[-1:] == b"\n":
        return json
    return None


def unframed_at_end(line: bytes, start: bytes) -> bytes | None:
    """Return the JSON text, beginning with `start`, of a valid record at the end of a line that begins with another.

    So it is where the newline between the two is what broke. None where there is no such record.
    """
    at = line.rfind(b" " + start) + 1 - FRAME_BYTES
    return unframed(line[at:]) if at > 0 else None
