"""The text of documents of each kind, and what is said of those that have none."""

from pathlib import Path

import pytest

from rowmill.tasks.documents import extraction
from rowmill.tasks.documents.extraction import Bounds, Extracted, extracted
from tests.tasks.documents import made

ALL = Bounds(100, 200_000)
_CELLS = f"<w:tr><w:tc>{made.paragraph('a')}</w:tc><w:tc>{made.paragraph('b')}</w:tc></w:tr>"
_RUNS = "<w:p><w:r><w:t>one</w:t><w:tab/><w:t>two</w:t><w:br/><w:t>three</w:t></w:r></w:p>"
_HTML = """<!-- mine --><!DOCTYPE html><html><head><title>T</title><style>p {}</style></head>
<body><h1>Hi</h1><p>a &amp;
   b<script>no()</script><ul><li>one<li>two</ul><table><tr><td>1</td><td>2</td></tr></table></body></html>"""


def text_of(folder: Path, data: bytes, bounds: Bounds = ALL) -> Extracted:
    (folder / "it").write_bytes(data)
    return extracted("it", folder, bounds)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (made.pdf("Hello (world)\nand more", "Page two"), "Hello (world)\nand more\n\nPage two"),
        (b"junk before it\n" + made.pdf("Late"), "Late"),
        (made.pdf("", "Some", compressed=True), "Some"),
        (made.docx(made.paragraph("One & two") + _RUNS), "One & two\none\ttwo\nthree"),
        (made.docx(f"<w:tbl>{_CELLS}</w:tbl>{made.paragraph('end')}"), "a \tb \t\nend"),
        (_HTML.encode(), "Hi\n\na & b\n\none\ntwo\n\n\t1\t2"),
        ('<html><meta charset="iso-8859-1"><body>Grüße'.encode("latin-1"), "Grüße"),
        ("Grüße\r\nzwei\n".encode(), "Grüße\nzwei"),
        (b"\xef\xbb\xbfmarked", "marked"),
        ("Grüße".encode("utf-16"), "Grüße"),
        (b"# A heading\n\n<b>of Markdown</b>", "# A heading\n\n<b>of Markdown</b>"),
    ],
)
def test_the_text_is_read_by_what_the_file_holds(tmp_path: Path, data: bytes, text: str) -> None:
    assert text_of(tmp_path, data) == Extracted(text)


def test_a_page_that_does_not_begin_as_one_is_told_by_its_name(tmp_path: Path) -> None:
    for name, data in (("part.html", b"<script>no()</script><p>a &amp; b</p>"), ("OLD.HTM", b"a &amp; b")):
        (tmp_path / name).write_bytes(data)
        assert extracted(name, tmp_path, ALL) == Extracted("a & b")
    (tmp_path / "named.html").write_bytes(made.pdf("Hello"))
    assert extracted("named.html", tmp_path, ALL) == Extracted("Hello"), "a name is no proof"


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        (made.encrypted_pdf(), "encrypted", "is encrypted: save it without its password"),
        (made.pdf("x")[:200], "damaged", "is damaged: no reader of PDF finds its parts; save it anew"),
        (
            made.pdf("", ""),
            "no_text",
            "holds no text, only images on its 2 pages: read it by OCR, and name what that made",
        ),
        (made.pdf(" "), "no_text", "holds no text on its only page"),
        (made.docx("<w:p>"), "damaged", "is damaged: mismatched tag: line 1, column 98; save it anew"),
        (made.docx("x")[:-30], "damaged", "is damaged: File is not a zip file; save it anew"),
        (made.docx("", name="x"), "unknown_kind", "is an archive and no .docx; name the documents that are in it"),
        (
            b'<html><meta charset="of-mine"><body>\xff',
            "damaged",
            "is damaged: its reader failed: LookupError: unknown encoding: of-mine",
        ),
        (b" \n", "no_text", "holds no text"),
        (b"", "no_text", "holds no text"),
        ("Grüße".encode("latin-1"), "not_utf8", "is no text in UTF-8: byte 3; save it as UTF-8"),
        (b"\x89PNG\r\n\x1a\n", "unknown_kind", "is an image: name its column in task.images to send it as one"),
        (
            b"\xd0\xcf\x11\xe0",
            "unknown_kind",
            "is of an older kind, or encrypted: PDF, .docx, HTML and plain text are read; save it as one of them",
        ),
        (b"\1\0\2", "unknown_kind", "is of no kind that is read: PDF, .docx, HTML and plain text are read"),
    ],
)
def test_one_without_a_text_is_told_with_the_reason(tmp_path: Path, data: bytes, code: str, said: str) -> None:
    assert text_of(tmp_path, data) == Extracted(problem=f"the document 'it' {said}", code=code)


@pytest.mark.parametrize(
    ("data", "bounds", "text"),
    [
        (made.pdf("one", "two", "three"), Bounds(2, 100), "one\n\ntwo\n\n[cut here: the first 2 of 3 pages]"),
        (made.pdf("one", "two"), Bounds(2, 8), "one\n\ntwo"),
        (made.pdf("one", "two", "three"), Bounds(9, 6), "one\n\nt\n\n[cut here: the first 6 characters]"),
        (made.docx(made.paragraph("long") * 1000), Bounds(1, 7), "long\nlo\n\n[cut here: the first 7 characters]"),
        (b"12345", Bounds(1, 5), "12345"),
        (b"123456", Bounds(1, 5), "12345\n\n[cut here: the first 5 characters]"),
    ],
)
def test_a_long_one_is_cut_and_its_last_line_says_so(tmp_path: Path, data: bytes, bounds: Bounds, text: str) -> None:
    found = text_of(tmp_path, data, bounds)
    assert found.text == text
    assert bool(found.cut) == ("[cut here" in text)


def test_no_file_is_read_but_those_below_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "documents"
    (root / "deep").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "deep" / "fine.txt").write_text("fine")
    (root / "large.txt").write_bytes(b"x" * 50)
    outside = f"lies outside of {root}: set input.documents_dir to a directory that holds the documents"
    for name in ("../secret", "link", str(tmp_path / "secret"), f"file://{tmp_path}/secret"):
        assert extracted(name, root, ALL) == Extracted(problem=f"{name!r} {outside}", code="not_readable")
    for name in ("deep/fine.txt", str(root / "deep/fine.txt"), f"file://{root}/deep/fine.txt"):
        assert extracted(name, root, ALL) == Extracted("fine")
    assert extracted("gone", root, ALL).problem == "the document 'gone' cannot be read: No such file or directory"
    assert extracted("deep", root, ALL).problem == "'deep' is no file"
    monkeypatch.setattr(extraction, "KIND", extraction.KIND._replace(largest=10))
    assert extracted("large.txt", root, ALL).problem == "'large.txt' has 0.0 MiB, and a document may have 0"
