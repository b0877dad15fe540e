"""The input as a whole: its files, their columns and first rows, its parts and its plan."""

import contextlib
import os
from collections.abc import Callable, Collection, Generator, Sequence
from pathlib import Path

import msgspec

from rowmill.core import extras
from rowmill.core.config.sections import InputConfig
from rowmill.core.rows import Column, InputFile, InputPart, Shard
from rowmill.files.input import delimited
from rowmill.files.input.batch_lines import looks_like_batch
from rowmill.files.input.comparison import Comparison
from rowmill.files.input.conversion import DELIMITERS, Conversion, header, table
from rowmill.files.input.copies import Copies
from rowmill.files.input.discovery import FEW, Found, find_files
from rowmill.files.input.encodings import is_utf8
from rowmill.files.input.first_look import HEAD_ROWS, FirstLook
from rowmill.files.input.first_rows import columns_of_lines, first_lines
from rowmill.files.input.formats import TABLES
from rowmill.files.input.layout import cut_parts, kept_files, spool_name
from rowmill.files.input.part_reader import PartReader
from rowmill.files.input.spool import first_row, take_behind
from rowmill.files.input.streams import expansion, shown


def find(config: InputConfig, *, limit: int | None = None, sample: int | None = None, plain: bool = False) -> "Input":
    """Find out what the input is: `input.path` is a file, a directory, a glob, a dataset's directory or a URL.

    limit, sample: only so many rows, the first ones or any. plain: read as by releases before manifests said how: a
    file is what its name or `input.format` says, whatever its first rows show; `input.encoding` is of CSV and TSV files
    alone, commas or tabs stand between their fields; and every blank line of JSON Lines is a row. Writes nothing.
    Raises `InputError`, and for files of other machines what `remote_file.download` raises.
    """
    delimited.check_encoding(config.codec)
    return Input(config, find_files(config, plain=plain), limit, sample, plain=plain)


class Input:
    """The input of one run.

    where: what `input.path` says, for messages. files: the user's, in the order of their names. format: what they are.
    size: bytes of all, as far as can be told without reading them: decompressed, and of the chosen rows only.
    delimiter: of CSV and TSV files, in words. notes: what was taken to be so and may be meant otherwise; taken_so: the
    same in one line, for who starts a run. plain: it is read as by earlier releases.
    """

    def __init__(
        self, config: InputConfig, found: list[Found], limit: int | None, sample: int | None, *, plain: bool
    ) -> None:
        """Look at the first bytes. Raises `InputError`; `ConfigError` where the format's package is not installed."""
        self.where = shown(config.path)
        self.files = [each.file for each in found]
        self.format = found[0].format
        self._found = found
        self._config = config
        self._limit = limit
        self._sample = sample
        self._copies = Copies()
        self._longer: tuple[Path, int] | None = (
            None  # file of the spool that something is to be brought to, from where on
        )
        self.plain = plain
        if self.format in TABLES:
            extras.need("pyarrow", f"{shown(found[0].file.path)}: {self.format.capitalize()} files")
        look = FirstLook(found, config, self._copies, self.first_rows, plain=plain)
        self.delimiter, self.notes, self.taken_so = look.delimiter, look.notes, look.taken_so
        if self.format == "jsonl" and config.format == "auto" and any(map(looks_like_batch, self.first_rows(1))):
            self.format = "batch"
        chosen = limit is not None or sample is not None
        self._parts = cut_parts(found, self.format, chosen=chosen, utf8=plain or is_utf8(config.codec))
        self.size = self._estimated_size()

    def first_rows(self, count: int) -> list[bytes]:
        """Return up to `count` rows from the start, as lines without newlines. Fewer of long ones."""
        tables = self.format in TABLES
        files = self._found[:1] if tables else self._found
        with contextlib.closing(self._conversion().blocks(files, lambda _: None)) as blocks:
            return first_lines(blocks, count, whole_blocks=tables)

    def columns(self) -> tuple[Column, ...]:
        """Return the columns. Those of JSON Lines are the keys of the first rows, and JSON unless always text there."""
        if self.format in DELIMITERS:
            return tuple(Column(name) for name in header(self._found[0], self._config, plain=self.plain)[0].names)
        if self.format in TABLES:
            return self._columns_of_tables()
        return columns_of_lines(self.first_rows(HEAD_ROWS))

    def _columns_of_tables(self) -> tuple[Column, ...]:
        """Return the columns of all files, but of the first ones where they are many or on another machine."""
        from rowmill.files.input.table_columns import columns_of

        schemas = []
        for each in self._found[: 1 if self._found[0].remote else FEW]:
            with self._copies.local(each.file.path) as path:
                schemas.append(table(self.format).schema(path))
        columns = columns_of(*schemas)
        return tuple(Column(each.name, each.type) for each in columns) if self.plain else columns

    @property
    def in_place(self) -> bool:
        """Whether all of it is read where it lies, so that a smaller file has fewer rows."""
        return all(part.spool is None for part in self._parts)

    def parts(self, spool: Path) -> list[InputPart]:
        """Return where workers read, given the spool's directory."""
        return [
            InputPart(part.files[0].file.path if part.spool is None else str(spool / part.spool), part.kind)
            for part in self._parts
        ]

    def origins(self) -> list[list[InputFile]]:
        """Return the files of other machines whose bytes, one behind the other, each part has; none for other parts.

        Of what was converted, or chosen, there are none. A byte order mark is not in the part.
        """
        alike = self.format in ("parquet", "arrow") or (self.format == "jsonl" and is_utf8(self._config.codec))
        chosen = self._limit is not None or self._sample is not None
        return [
            [each.file for each in part.files]
            if alike and not chosen and all(each.remote and not each.compressed for each in part.files)
            else []
            for part in self._parts
        ]

    def spooled(self, spool: Path) -> list[Path]:
        """Return the files that the plan makes: they are to be synced before they are trusted."""
        return [spool / part.spool for part in self._parts if part.spool is not None]

    def separated_by(self, delimiter: str | None) -> list[str]:
        """Return what stands between the fields of each of the first files, with this `input.delimiter`.

        Nothing for files that have none. Raises `InputError`.
        """
        files = self._found[:FEW] if self.format in DELIMITERS else []
        config = msgspec.structs.replace(self._config, delimiter=delimiter)
        return [config.separator or header(each, config, plain=self.plain)[1] for each in files]

    def agrees(self, spool: Path, shards: list[Shard] | None) -> bool:
        """Tell whether a plan, as far as it had come, can be of this input as it is read now.

        Told by what is cheap: which parts are spooled, what the columns in the spool are called, and whether the last
        lines of the files are in the plan; a plan of another reading can pass, and is found out by `compare`.
        """
        ends = {shard.part: shard.end for shard in shards or ()}
        for number, part in enumerate(self._parts):
            if part.kind != "lines":
                continue
            if part.spool is None:
                size = part.files[0].file.size
                right = not (spool / spool_name(number)).exists() and ends.get(number, size) >= size
            else:
                row = first_row(spool / part.spool) if self.format in DELIMITERS else None
                right = row is None or list(row) == header(part.files[0], self._config, plain=self.plain)[0].names
            if not right:
                return False
        return True

    def plan(
        self,
        spool: Path,
        *,
        shard_bytes: int,
        shard_rows: int,
        progress: Callable[[int], None] | None = None,
    ) -> Generator[Shard]:
        """Cut the input into shards, each yielded as soon as its rows can be read from its part. Makes the spool anew.

        progress: told how many bytes of the user's files have been read so far. Raises as `PartReader` does; the shards
        before stay good.
        """
        reader = self._reader(spool, progress=progress)
        return reader.shards(self._parts, shard_bytes=shard_bytes, shard_rows=shard_rows)

    def whole(self, spool: Path, shards: list[Shard]) -> bool:
        """Tell whether the spool has all that this plan, which came to its end, has made."""
        return kept_files(self._parts, spool, shards) >= {path.name for path in self.spooled(spool)}

    def compare(
        self,
        spool: Path,
        shards: list[Shard],
        *,
        shard_bytes: int,
        shard_rows: int,
        files: Sequence[InputFile] = (),
    ) -> tuple[Shard | None, list[Shard]]:
        """Read everything again; return the first shard that is another than was planned, and those that are new.

        What the spool lacks is made again; it is left empty where the input has become another one, and else is to be
        synced. What is new may lie beside it until `take_new` is called. files: as they were, if the last row may only
        have begun then. Where it has gone on, the last planned shard is among the new ones, without that row. Raises as
        `plan` does.
        """
        kept = kept_files(self._parts, spool, shards)
        comparison = Comparison(
            shards,
            shard_bytes,
            shard_rows,
            spool={name: spool / name for name in kept},
            may_have_begun=bool(files),
            grown=bool(files) and self._is_longer(files),
        )
        differing, new = comparison.of(self._parts, self._reader(spool, kept=kept))
        self._longer = comparison.longer
        if differing is not None:
            for path in self.spooled(spool):
                if path.name not in kept and path.exists():
                    os.truncate(path, 0)
        return differing, new

    def take_new(self) -> Path | None:
        """Bring what `compare` has found to be new into the spool, once it is planned: before, the old plan has to fit.

        Returns the file that is to be synced, if any. Raises `MachineError` where it cannot be written.
        """
        if self._longer is None:
            return None
        path, start = self._longer
        take_behind(path, start)
        return path

    def _is_longer(self, files: Sequence[InputFile]) -> bool:
        """Tell whether the last one of these files is longer now."""
        return len(files) <= len(self.files) and files[-1].size < self.files[len(files) - 1].size

    def _estimated_size(self) -> int:
        size = sum(each.file.size for each in self._found)
        compressed = [each.file for each in self._found if each.compressed]
        if compressed:
            size += int(sum(file.size for file in compressed) * (expansion(compressed[0].path) - 1))
        if self._limit is None and self._sample is None:
            return size
        rows = min(count for count in (self._limit, self._sample) if count is not None)
        seen = self.first_rows(min(rows, HEAD_ROWS))
        return min(size, sum(len(line) + 1 for line in seen) * rows // max(len(seen), 1))

    def _conversion(self) -> Conversion:
        return Conversion(self.format, self._config, self._copies, plain=self.plain)

    def _reader(
        self, spool: Path, *, kept: Collection[str] = (), progress: Callable[[int], None] | None = None
    ) -> PartReader:
        return PartReader(
            self._conversion(),
            self._copies,
            spool,
            limit=self._limit,
            sample=self._sample,
            plain=self.plain,
            kept=kept,
            progress=progress,
        )
