"""The text of one document: what the child of `reader` does.

Its kind is told by the content; only a page that does not begin as one is told by its name. `Extracted.text` has a
line at its end where the document goes on beyond it, so that a model does not take a part for the whole.
"""

import codecs
import re
from pathlib import Path
from typing import BinaryIO

import msgspec

from rowmill.core.errors import InvalidRow
from rowmill.tasks.local_files import FileKind, opened, shown

LARGEST_BYTES = 100 << 20  # of one document
KIND = FileKind("document", "input.documents_dir", LARGEST_BYTES)

_HEAD_BYTES = 1024  # PDF readers find the signature anywhere there
_ARCHIVE = b"PK\x03\x04"
_OLD_OFFICE = b"\xd0\xcf\x11\xe0"
_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_PAGE = re.compile(r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL)
_PAGES = (".html", ".htm", ".xhtml")  # names of pages, of which many are only a part of one
_CHARSET = re.compile(rb"<meta[^>]+charset=[\"']?([A-Za-z0-9_-]+)", re.IGNORECASE)
_NO_TEXT = {0xFFFE: None, 0: None, 0x02: None}  # U+0002 is where PDFium has joined a word that a line has parted
_READ = "PDF, .docx, HTML and plain text are read"


class Bounds(msgspec.Struct, frozen=True):
    """How much of one document is taken."""

    pages: int
    characters: int


class Part(msgspec.Struct):
    """What a reader of one kind has made of a document. cut: what there is of it, in words; "" where that is all."""

    text: str
    cut: str = ""


class Extracted(msgspec.Struct):
    """The text of a document, or why there is none: `problem` in a line, and `code`, the same in a word."""

    text: str = ""
    cut: str = ""
    problem: str = ""
    code: str = ""


class NoText(Exception):
    """A document that has no text to be had; the text says why, behind its name. code: the same in a word."""

    def __init__(self, code: str, problem: str) -> None:
        super().__init__(problem)
        self.code = code


def extracted(name: str, root: Path, bounds: Bounds) -> Extracted:
    """Read the document that a row names. Any error is told, but those that end the process."""
    try:
        with opened(name, root, KIND) as file:
            part = _part(file, bounds, page=name.lower().endswith(_PAGES))
    except NoText as error:
        return Extracted(problem=f"the document {shown(name)} {error}", code=error.code)
    except InvalidRow as error:
        return Extracted(problem=str(error), code="not_readable")
    except MemoryError:
        return Extracted(problem=f"the document {shown(name)} takes more memory than a document may", code="too_large")
    text = part.text.translate(_NO_TEXT).replace("\r\n", "\n").encode(errors="ignore").decode().strip()
    if not text:
        return Extracted(problem=f"the document {shown(name)} holds no text", code="no_text")
    if len(text) > bounds.characters:
        text, part.cut = text[: bounds.characters].rstrip(), f"the first {bounds.characters:,} characters"
    if part.cut:
        text = f"{text}\n\n[cut here: {part.cut}]"
    return Extracted(text, part.cut)


def _part(file: BinaryIO, bounds: Bounds, *, page: bool) -> Part:
    try:
        return _read(file, bounds, page=page)
    except (NoText, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever readers raise for what is none of theirs
        raise NoText("damaged", f"is damaged: its reader failed: {type(error).__name__}: {error}") from None


def _read(file: BinaryIO, bounds: Bounds, *, page: bool) -> Part:
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if b"%PDF-" in head:
        from rowmill.tasks.documents import pdf

        return pdf.read(file.read(), bounds)
    if head.startswith(_ARCHIVE):
        from rowmill.tasks.documents import word

        return Part(word.read(file, bounds.characters))
    if head.startswith(_IMAGES):
        raise NoText("unknown_kind", "is an image: name its column in task.images to send it as one")
    if head.startswith((_OLD_OFFICE, b"{\\rtf")):
        raise NoText("unknown_kind", f"is of an older kind, or encrypted: {_READ}; save it as one of them")
    return _plain(file, page=page)


def _plain(file: BinaryIO, *, page: bool) -> Part:
    data = file.read()
    encoding = "utf-16" if data.startswith(_UTF16) else "utf-8-sig"
    if encoding == "utf-8-sig" and b"\0" in data:
        raise NoText("unknown_kind", f"is of no kind that is read: {_READ}")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        said = _CHARSET.search(data[:_HEAD_BYTES])  # of a page, which may say what it is written in
        if said is None:
            raise NoText("not_utf8", f"is no text in UTF-8: byte {error.start + 1}; save it as UTF-8") from None
        text = data.decode(said[1].decode(), errors="replace")
    if page or _PAGE.match(text):
        from rowmill.tasks.documents.page import text_of

        return Part(text_of(text))
    return Part(text)
