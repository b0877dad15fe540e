"""PDF files, by PDFium: the reader of Chromium, which is used to damaged files and takes about 1 ms a page."""

import pypdfium2  # type: ignore[import-untyped]  # it ships no types

from rowmill.tasks.documents.extraction import Bounds, NoText, Part

_ENCRYPTED = pypdfium2.raw.FPDF_ERR_PASSWORD
_UNSUPPORTED = pypdfium2.raw.FPDF_ERR_SECURITY
_LOOKED_AT = 3  # pages that are searched for images where there is no text


def read(data: bytes, bounds: Bounds) -> Part:
    """Return the text of a document's first pages. Raises `NoText`."""
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if error.err_code in (_ENCRYPTED, _UNSUPPORTED):
            raise NoText("encrypted", "is encrypted: save it without its password") from None
        raise NoText("damaged", "is damaged: no reader of PDF finds its parts; save it anew") from None
    count = len(document)
    texts: list[str] = []
    characters = 0
    for number in range(min(count, bounds.pages)):
        texts.append(_text(document, number))
        characters += len(texts[-1])
        if characters > bounds.characters:
            return Part("\n\n".join(texts))  # it is cut by its characters
    text = "\n\n".join(texts)
    if not text.strip():
        pages = "its only page" if count == 1 else f"its {count:,} pages"
        if _has_images(document):
            raise NoText("no_text", f"holds no text, only images on {pages}: read it by OCR, and name what that made")
        raise NoText("no_text", f"holds no text on {pages}")
    return Part(text, f"the first {bounds.pages:,} of {count:,} pages" if count > bounds.pages else "")


def _text(document: pypdfium2.PdfDocument, number: int) -> str:
    try:
        page = document[number]
    except pypdfium2.PdfiumError:
        raise NoText("damaged", f"is damaged: page {number + 1} cannot be read; save it anew") from None
    try:
        text_page = page.get_textpage()
        text: str = text_page.get_text_bounded()
        text_page.close()
    finally:
        page.close()
    return text


def _has_images(document: pypdfium2.PdfDocument) -> bool:
    pages = (document[number] for number in range(min(len(document), _LOOKED_AT)))
    return any(True for page in pages for _ in page.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE]))
