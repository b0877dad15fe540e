"""What was asked about some rows: their input, and the request that was made of it, where both are still at hand."""

import stat
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from rowmill.core.config import Config
from rowmill.core.config.hidden import hidden
from rowmill.core.errors import InvalidRow, RowmillError
from rowmill.core.rows import Shard
from rowmill.files.input.formats import named
from rowmill.runs.answered import Line, Questions, asked_in
from rowmill.runs.report.sources import RunSources

_BYTES = 4 << 20  # of the input that are read at a run's end: all rows of a shard are read to find a few
_TABLE_ROW = 256  # bytes that a row of a table counts as
_FILES = 16  # of the input, which are looked for again: more are left alone at a run's end


class AskedRow(NamedTuple):
    """One row: as the input has it, and as it was asked. None: it is not at hand."""

    input: str | None = None
    prompt: str | None = None


def asked_of(
    sources: RunSources, config: Config | None, lines: Sequence[Line], *, thorough: bool
) -> dict[int, AskedRow]:
    """Return what was asked about rows, by their numbers; those are missing of which it is not at hand.

    thorough: it may take seconds. Else few places of a local input are read. Why something is missing is noted.
    """
    if config is None or not _can_be_read(sources, config, thorough=thorough):
        return {}
    wanted: dict[int, list[Line]] = {}
    left = _BYTES
    for line in lines:
        index = line.get("index")
        if not isinstance(index, int) or not sources.shards:
            continue
        place = bisect_right(sources.shards, index, key=_first_row) - 1
        if place not in wanted:
            left -= _size(sources.shards[place])
            if left < 0 and not thorough:
                break
        wanted.setdefault(place, []).append(line)
    found: dict[int, AskedRow] = {}
    try:
        questions = Questions(config)
        for place, theirs in sorted(wanted.items()):
            for row, text in questions.texts(sources.shards[place], theirs).items():
                found[row] = AskedRow(text.decode("utf-8", "replace"), _prompt(questions, text))
    except (RowmillError, OSError) as error:
        sources.problems.append(f"what was asked is not shown, at least of some rows: {error}")
    return found


def _prompt(questions: Questions, text: bytes) -> str | None:
    with suppress(InvalidRow, RowmillError, OSError, ValueError):
        return prompt_text(hidden(questions.body(text)))
    return None


def _first_row(shard: Shard) -> int:
    return shard.first_row


def _size(shard: Shard) -> int:
    """Return about how many bytes are read to have its rows; the range of a table's shard is one of rows."""
    return _TABLE_ROW * shard.rows if shard.end - shard.start == shard.rows else shard.end - shard.start


def _can_be_read(sources: RunSources, config: Config, *, thorough: bool) -> bool:
    """Whether the input can be looked at again: a pipe would be waited for, and another machine be asked.

    At a run's end also whether that is quick: a workbook is read as a whole to tell what its columns are.
    """
    files = sources.manifest.input
    workbook = config.input.format == "xlsx" or any(named(file.path)[0] == "xlsx" for file in files)
    if not thorough and (workbook or len(files) > _FILES):
        return False
    for file in files:
        try:
            if "://" in file.path or not stat.S_ISREG(Path(file.path).stat().st_mode):
                return False
        except (OSError, ValueError):
            return False
    return bool(files)


def prompt_text(body: Any) -> str | None:
    """Return what a request asks, as text: its messages one below the other, each below who says it."""
    parts = []
    for role, content in asked_in(body):
        if role is None:
            texts = content if isinstance(content, list) else [content]
            parts.append("\n".join(each if isinstance(each, str) else str(each) for each in texts))
        else:
            parts.append(f"{role}\n{_content(content)}")
    return "\n\n".join(parts) or None


def _content(content: Any) -> str:
    if not isinstance(content, list):
        return content if isinstance(content, str) else str(content)
    return "\n".join(
        str(part["text"]) if isinstance(part, dict) and "text" in part else f"({_kind(part)})" for part in content
    )


def _kind(part: Any) -> str:
    return str(part.get("type", "part")) if isinstance(part, dict) else "part"
