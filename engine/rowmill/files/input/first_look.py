"""What is looked at before a run starts: the headers of files with columns, and what was taken to be so.

Whoever starts a run is told what was guessed, and what is plainly not what it is called is refused.
"""

from collections.abc import Callable
from pathlib import Path

from rowmill.core.config.sections import InputConfig
from rowmill.core.errors import InputError
from rowmill.core.rows import BROKEN
from rowmill.files.input.conversion import DELIMITERS, header, table
from rowmill.files.input.copies import Copies
from rowmill.files.input.dialect import NAMES, Columns
from rowmill.files.input.discovery import FEW, Found
from rowmill.files.input.formats import TABLES
from rowmill.files.input.streams import shown

HEAD_ROWS = 100  # that are looked at
_SAID = 4  # notes that a run says in its one line


class FirstLook:
    """What the first bytes and rows of an input's files tell.

    delimiter: of CSV and TSV files, in words. notes: what was taken to be so and may be meant otherwise.
    """

    def __init__(
        self,
        found: list[Found],
        config: InputConfig,
        copies: Copies,
        first_rows: Callable[[int], list[bytes]],
        *,
        plain: bool,
    ) -> None:
        """Look. Raises `InputError`.

        first_rows: gives up to so many rows from the start, as lines. plain: see `inputs.find`.
        """
        self._found = found
        self._format = found[0].format
        self._config = config
        self._copies = copies
        self._plain = plain
        self.delimiter: str | None = None
        self.notes: list[str] = []
        self._is_guess = False  # the delimiter is not that of the format's name, and nobody has said so
        self._check(first_rows)

    def taken_so(self) -> str:
        """Return in one line what was taken to be so, for who starts a run; "" where all is as it is called."""
        guess = [f"read with {self.delimiter} between fields; input.delimiter settles it"] if self._is_guess else []
        said = [*guess, *self.notes]
        more = f"; and {len(said) - _SAID} more, see rowmill plan" if len(said) > _SAID else ""
        return "; ".join(said[:_SAID]) + more

    def _check(self, first_rows: Callable[[int], list[bytes]]) -> None:
        """Look at what only some formats have. Raises `InputError`."""
        if self._format in DELIMITERS:
            self._check_headers()
        elif self._format in TABLES:
            local = [Path(each.file.path) for each in self._found if not each.remote]
            for path in local if len(local) <= FEW else local[:1]:  # of many the planner finds it out
                table(self._format).check(path)
        elif self._format == "xlsx":
            self._check_sheets()
        elif self._format == "json" or (self._format == "jsonl" and self._config.format == "auto" and not self._plain):
            lines = [line for line in first_rows(HEAD_ROWS) if line.strip()]
            if lines and not any(line.lstrip()[:1] == b"{" for line in lines):
                kind, first = "lines" if self._format == "jsonl" else "values", lines[0].removeprefix(BROKEN)[:60]
                raise InputError(
                    f"{shown(self._config.path)}: none of the first {kind} begins a JSON object, the first is "
                    f"{first.decode(errors='replace')!r}; set input.format to what it is, or input.path to other files"
                )

    def _check_headers(self) -> None:
        """Refuse files of other columns than the first has. Of very many files only the first is looked at."""
        columns, delimiter = header(self._found[0], self._config, plain=self._plain)
        first = columns.names
        if first[0].startswith('{"') and not self._plain:
            raise InputError(
                f"{shown(self._found[0].file.path)}: the header begins as JSON does, {first[0][:60]!r}; name the file "
                '.jsonl, or set input.format = "jsonl"'
            )
        self.delimiter = NAMES.get(delimiter, repr(delimiter))
        self._is_guess = self._config.delimiter is None and delimiter != DELIMITERS[self._format]
        self._note_unnamed(self._found[0], columns)
        others = self._found[1:] if len(self._found) <= FEW else []
        for each in others:
            if each.remote or not each.file.size:
                continue
            if different := set(first).symmetric_difference(header(each, self._config, plain=self._plain)[0].names):
                name = min(different)
                has, lacks = (self._found[0], each) if name in first else (each, self._found[0])
                raise InputError(
                    f"{each.file.path}: {shown(has.file.path)} has a column {name!r}, and {shown(lacks.file.path)} has "
                    "none; name files of the same columns, or write the missing ones"
                )

    def _check_sheets(self) -> None:
        """Refuse workbooks of other columns than the first one has."""
        from rowmill.files.input.workbook_look import look

        first: list[str] | None = None
        for each in self._found[: FEW if len(self._found) <= FEW else 1]:
            with self._copies.local(each.file.path) as path:
                book = look(path, self._config.sheet)
            names = book.columns.names
            self.notes += book.notes
            if first is None:
                first = names
                if book.others:
                    others = ", ".join(map(repr, book.others))
                    self.notes.append(f"sheet {book.sheet!r} is read, and not {others}; input.sheet names another")
            elif different := set(first).symmetric_difference(names):
                name = min(different)
                has = self._found[0] if name in first else each
                raise InputError(
                    f"{each.file.path}: only {shown(has.file.path)} has a column {name!r}; name workbooks of the same "
                    "columns, or write the missing ones"
                )
            self._note_unnamed(each, book.columns)

    def _note_unnamed(self, found: Found, columns: Columns) -> None:
        path = shown(found.file.path)
        self.notes += [
            f"{path}: column {place} has no name in the header; it is called {columns.names[place - 1]}"
            for place in columns.unnamed
        ]
