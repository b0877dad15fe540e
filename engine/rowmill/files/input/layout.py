"""The parts of an input: local files whose rows lie together, as workers read them.

Plain JSON Lines files, and Parquet and Arrow files, are parts by themselves and read where they lie. What has to be
turned into lines (CSV, workbooks, JSON documents, compressed files, batch files, lines on other machines) is spooled,
neighbours into one part. Of more than 256 files the small ones are spooled too: each part has at least one shard, and
every shard costs some syncs.

Which parts there are depends on names, sizes and first bytes only, so workers can be told before anything is read.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from rowmill.core.rows import Shard
from rowmill.files.input.discovery import FEW, Found
from rowmill.files.input.formats import Format
from rowmill.files.input.jsonl import shard_bytes


class PlannedPart(NamedTuple):
    """One part, and the files of the user that it is made of."""

    kind: Literal["lines", "parquet", "arrow"]
    files: list[Found]
    spool: str | None  # name of its file in the spool; None where it is read in place


def cut_parts(found: list[Found], format_: Format, *, chosen: bool, utf8: bool) -> list[PlannedPart]:
    """Return the parts of these files, in order.

    chosen: only some of the rows are wanted, so they are spooled. utf8: so is text that is anything else.
    """
    if chosen:
        return [PlannedPart("lines", found, spool_name(0))]
    small = shard_bytes(sum(each.file.size for each in found)) if len(found) > FEW else 0
    parts: list[PlannedPart] = []
    for each in found:
        kind: Literal["lines", "parquet", "arrow"] = format_ if format_ in ("parquet", "arrow") else "lines"
        if each.remote and kind != "lines":
            parts.append(PlannedPart(kind, [each], spool_name(len(parts), format_)))
        elif _in_place(each, format_, utf8=utf8) and each.file.size >= small:
            parts.append(PlannedPart(kind, [each], None))
        elif parts and parts[-1].kind == "lines" and parts[-1].spool is not None:
            parts[-1].files.append(each)
        else:
            parts.append(PlannedPart("lines", [each], spool_name(len(parts))))
    return parts


def _in_place(found: Found, format_: Format, *, utf8: bool) -> bool:
    readable = format_ in ("parquet", "arrow") or (format_ == "jsonl" and utf8)
    return readable and not found.remote and not found.compressed


def spool_name(number: int, suffix: str = "jsonl") -> str:
    """Return what a part's file in the spool is called."""
    return f"{number:06}.{suffix}"


def kept_files(parts: Sequence[PlannedPart], spool: Path, shards: Sequence[Shard]) -> frozenset[str]:
    """Return which files of the spool have all that this plan has made, as far as their sizes tell."""
    ends = {shard.part: shard.end for shard in shards}
    kept = set()
    for number, part in enumerate(parts):
        if part.spool is not None:
            path = spool / part.spool
            size = ends.get(number, 0) if part.kind == "lines" else part.files[0].file.size
            if path.exists() and path.stat().st_size == size:
                kept.add(part.spool)
    return frozenset(kept)
