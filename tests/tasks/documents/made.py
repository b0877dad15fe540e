"""Documents as tests need them, written by hand: a reader of PDF must not be tried on what itself has written."""

import zipfile
import zlib
from io import BytesIO
from xml.sax.saxutils import escape

_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def pdf(*pages: str, extra: bytes = b"", compressed: bool = False) -> bytes:
    """Return a PDF with a text on each page, a line for each of its lines; "" makes a page with an image and no text.

    `extra` goes into the trailer.
    """
    objects: list[bytes] = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    image = b"<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8"
    objects.append(_stream(b"\x80", image))
    kids = []
    for text in pages:
        lines = "".join(f"({_in_pdf(line)}) Tj T* " for line in text.split("\n"))
        content = f"BT /F1 12 Tf 14 TL 72 720 Td {lines}ET" if text else "100 0 0 100 72 600 cm /I1 Do"
        data = content.encode("latin-1")
        objects.append(_stream(zlib.compress(data), b"<< /Filter /FlateDecode") if compressed else _stream(data, b"<<"))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> /XObject << /I1 4 0 R >> >> >>" % len(objects)
        )
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%b] >>" % (len(kids), b" ".join(kids))
    made = bytearray(b"%PDF-1.4\n")
    places = []
    for number, each in enumerate(objects, 1):
        places.append(len(made))
        made += b"%d 0 obj\n%b\nendobj\n" % (number, each)
    start = len(made)
    made += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    made += b"".join(b"%010d 00000 n \n" % place for place in places)
    made += b"trailer\n<< /Size %d /Root 1 0 R %b >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, extra, start)
    return bytes(made)


def encrypted_pdf() -> bytes:
    """Return a PDF that wants a password: what protects it is the standard handler, by a password that nobody knows."""
    handler = b"/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <%b> /U <%b> >> /ID [<%b> <%b>]"
    return pdf("secret", extra=handler % (b"11" * 32, b"22" * 32, b"33" * 16, b"33" * 16))


def docx(body: str, *, name: str = "word/document.xml") -> bytes:
    """Return a Word document with this body of XML, in which `w:` is declared."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, f'<w:document xmlns:w="{_W}"><w:body>{body}</w:body></w:document>')
    return file.getvalue()


def paragraph(text: str) -> str:
    """Return a paragraph of a Word document."""
    return f"<w:p><w:r><w:t>{escape(text)}</w:t></w:r></w:p>"


def _stream(data: bytes, head: bytes) -> bytes:
    return b"%b /Length %d >>\nstream\n%b\nendstream" % (head, len(data), data)


def _in_pdf(line: str) -> str:
    return line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
