"""Word's documents (.docx): the text of their paragraphs, in order, with the cells of tables parted by tabs.

Read here, by the standard library: what is wanted is one part of an archive, of which the packages that know all the
others take each into memory, images too.
"""

import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, BinaryIO
from xml.etree.ElementTree import ParseError, iterparse

from rowmill.tasks.documents.extraction import NoText

_BODY = "word/document.xml"
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_STRICT = "{http://purl.oclc.org/ooxml/wordprocessingml/main}"  # of files that were saved as "strict"
_BETWEEN = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_ENDS = {"p": "\n", "tc": "\t", "tr": "\n"}


def read(file: BinaryIO, characters: int) -> str:
    """Return the text, some more than so many characters of a long one. Raises `NoText`."""
    try:
        with zipfile.ZipFile(file) as archive, archive.open(_BODY) as body:
            return _text(body, characters)
    except KeyError:
        raise NoText("unknown_kind", "is an archive and no .docx; name the documents that are in it") from None
    except (zipfile.BadZipFile, zlib.error, ParseError, EOFError, NotImplementedError) as error:
        raise NoText("damaged", f"is damaged: {error}; save it anew") from None
    except RuntimeError:  # what zipfile raises for a password
        raise NoText("encrypted", "is encrypted: save it without its password") from None


def _text(body: IO[bytes], characters: int) -> str:
    texts: list[str] = []
    size = 0
    for text in _texts(body):
        texts.append(text)
        size += len(text)
        if size > characters + len(texts):
            break
    return "".join(texts)


def _texts(body: IO[bytes]) -> Iterator[str]:
    in_cells = 0
    for event, element in iterparse(body, events=("start", "end")):  # noqa: S314 - what expands has limits, see `reader`
        name = element.tag.removeprefix(_W).removeprefix(_STRICT)
        if event == "start":
            in_cells += name == "tc"
            continue
        in_cells -= name == "tc"
        if name == "t" and element.text:
            yield element.text
        elif name in _BETWEEN:
            yield _BETWEEN[name]
        elif name in _ENDS:
            yield " " if name == "p" and in_cells else _ENDS[name]
            element.clear()  # what was read: memory does not grow with the document
