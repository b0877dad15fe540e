"""Local copies of remote Parquet and Arrow files: their readers jump to and fro."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from rowmill.core.errors import InputError
from rowmill.files import remote
from rowmill.files.input.spool import cannot_write
from rowmill.files.input.streams import shown
from rowmill.files.remote_file import download


class Copies:
    """Fetches files. The one that was last looked at is held in a temporary file, which goes with this object."""

    def __init__(self) -> None:
        self._held: tuple[str, IO[bytes]] | None = None

    @contextlib.contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """Give a local path for the file: its own, or that of a copy. Errors within name the file itself."""
        if not remote.is_remote(path):
            yield Path(path)
            return
        if self._held is None or self._held[0] != path:
            self._drop()
            try:
                file = tempfile.NamedTemporaryFile(prefix="rowmill-")  # noqa: SIM115 - it is held
            except OSError as error:
                raise cannot_write(Path(tempfile.gettempdir()), error) from error
            self._held = path, file
            try:
                download(path, Path(file.name))
            except BaseException:
                self._drop()
                raise
        copy = Path(self._held[1].name)
        with naming(path, copy):
            yield copy

    def bring(self, path: str, target: Path, on_read: Callable[[int], None]) -> None:
        """Copy the file to `target`. on_read: told the bytes since its last call."""
        if self._held is not None and self._held[0] == path:
            try:
                on_read(Path(shutil.copyfile(self._held[1].name, target)).stat().st_size)
            except OSError as error:
                raise cannot_write(target, error) from error
            self._drop()
            return
        download(path, target, on_read)

    def _drop(self) -> None:
        if self._held is not None:
            self._held[1].close()
            self._held = None


@contextlib.contextmanager
def naming(path: str, copy: Path) -> Iterator[None]:
    """Name the user's file in errors that name its copy."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(str(copy), shown(path), 1)) from None
