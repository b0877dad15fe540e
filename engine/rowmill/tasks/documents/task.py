"""A task whose prompt has the text of documents: made around another one, which finds the text in the row.

A worker has the documents of a row read while others are on their way, and puts what came of it beside the row
(`attached`); whoever builds a row without that, as a plan does, waits for them.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rowmill.core.errors import ConfigError, InputError, InvalidRow, UnreadableDocument
from rowmill.core.wire import Request
from rowmill.tasks import Task
from rowmill.tasks.documents.extraction import Extracted
from rowmill.tasks.documents.reader import DocumentReader
from rowmill.tasks.rows import ColumnReader, ColumnUse, encode, objects
from rowmill.tasks.wrapper import TaskWrapper

_KEY = "task.documents"
_REMOTE = "://"
_LOCAL = "file://"
_UNREAD = "-"  # in the place of a text that is not wanted: a prompt of nothing would be none


class RowWithDocuments(bytes):
    """A row as the inner task reads it, with its documents as further columns.

    row: as it came, which is what an output has of it. problem: why one of them cannot be had.
    """

    row: bytes
    problem: InvalidRow | None = None


class DocumentTask(TaskWrapper):
    """Builds the requests of another task, whose prompt names documents as columns."""

    def __init__(self, inner: Task, documents: Mapping[str, str], reader: DocumentReader) -> None:
        """`documents`: the name of each in the prompt -> the column with its path. Raises `ConfigError`."""
        super().__init__(inner)
        self._inner = inner
        self._documents = dict(documents)
        self._reader = reader
        self._rows = ColumnReader([ColumnUse(column, _KEY) for column in documents.values()], None)
        if inner.columns is not None:
            if (name := next((each for each in documents if each not in inner.columns), None)) is not None:
                raise ConfigError(
                    f"{_KEY}.{name}: nothing asks about it; write {{{name}}} into task.prompt, or remove it"
                )
            own = [column for column in inner.columns if column not in self._documents]
            self.columns = list(dict.fromkeys([*documents.values(), *own]))
        self._cut = self._told = False  # a document has been; and somebody has been told so
        self.same_for_all = False
        self.rows_per_request = inner.rows_per_request
        self.documents = self
        self.build = self._built
        self.check = self._checked
        self.parse = inner.parse
        self.pack = inner.pack
        self.unpack = inner.unpack
        self.again = inner.again
        self.asking = inner.asking
        self.id_of = lambda line: inner.id_of(_row(line))
        self.input_of = lambda line: inner.input_of(_row(line))

    def _built(self, line: bytes) -> Request:
        """Turn one input line into a request; see `Task.build`."""
        whole = line if isinstance(line, RowWithDocuments) else self._read_now(line)
        if whole.problem is not None:
            raise whole.problem
        return self._inner.build(whole)

    def _checked(self, lines: Iterable[bytes], source: str) -> None:
        """Refuse a configuration that does not fit the input's first lines; see `Task.check`."""
        lines = list(lines)
        self._reader.check()
        self._rows.check(lines, source)
        for row in objects(lines):
            if (name := next((each for each in self._documents if each in row), None)) is not None:
                raise InputError(f"{source}: {_KEY}.{name}: the rows have a column of that name; choose another")
        self._inner.check([self.unread(line) for line in lines], source)

    def open(self) -> None:
        """Be about to be asked for texts. Raises `MachineError` where there is no directory with documents."""
        self._reader.check()

    def close(self) -> None:
        """Read nothing more, and end what is being read."""
        self._reader.close()

    def note(self) -> str | None:
        """Say, once, that documents were cut; None where there is nothing to be said."""
        if not self._cut or self._told:
            return None
        self._told = True
        pages, characters = self._reader.bounds.pages, self._reader.bounds.characters
        return (
            f"some documents are longer than what is taken of them (task.document_pages = {pages}, "
            f"task.document_characters = {characters}); the last line of their text says so"
        )

    async def attached(self, line: bytes) -> RowWithDocuments:
        """Return a row with its documents, or with why there are none."""
        try:
            wanted = self._wanted(line)
            texts = {}
            for name, paths in wanted.items():
                texts[name] = self._joined([await self._reader.read(path) for path in paths])
        except InvalidRow as error:
            return _failed(line, error)
        return _whole(line, texts)

    def unread(self, line: bytes) -> RowWithDocuments:
        """Return a row as if its documents had been read, for who looks at all else of it."""
        try:
            self._rows.read(line)
        except InvalidRow as error:
            return _failed(line, error)
        return _whole(line, dict.fromkeys(self._documents, _UNREAD))

    def _read_now(self, line: bytes) -> RowWithDocuments:
        wanted = self._wanted(line)
        read = self._reader.read_now
        return _whole(line, {name: self._joined([read(path) for path in paths]) for name, paths in wanted.items()})

    def _joined(self, documents: list[Extracted]) -> str:
        for each in documents:
            if each.problem:
                raise UnreadableDocument(each.problem, each.code)
            self._cut = self._cut or bool(each.cut)
        return "\n\n".join(each.text for each in documents)

    def _wanted(self, line: bytes) -> dict[str, list[str]]:
        """Return the paths of the documents that a row names. Raises `InvalidRow`."""
        values = self._rows.read(line)
        return {name: list(_paths(values[column], column)) for name, column in self._documents.items()}


def _paths(value: Any, column: str) -> Iterator[str]:
    """Yield the paths in a column's value: a text is one, null and "" are none, a list holds several."""
    if value is None or value == "":
        return
    if isinstance(value, list):
        for each in value:
            yield from _paths(each, column)
        return
    if not isinstance(value, str):
        raise InvalidRow(f"{_KEY}: column {column!r} holds no path of a document, but {encode(value).decode()[:100]}")
    if _REMOTE in value and not value.lower().startswith(_LOCAL):
        raise InvalidRow(f"{_KEY}: column {column!r} holds a URL, {value[:100]!r}: documents are files of this machine")
    yield value


def _whole(line: bytes, texts: dict[str, str]) -> RowWithDocuments:
    members = b"".join(b",%b:%b" % (encode(name), encode(text)) for name, text in texts.items())
    whole = RowWithDocuments(b"%b%b}" % (line.rstrip()[:-1], members))
    whole.row = line
    return whole


def _failed(line: bytes, problem: InvalidRow) -> RowWithDocuments:
    row = RowWithDocuments(line)
    row.row, row.problem = line, problem
    return row


def _row(line: bytes) -> bytes:
    return line.row if isinstance(line, RowWithDocuments) else line
