"""A page is its shell with a document in it; what cannot be written spoils no run."""

import base64
import hashlib
import re
from pathlib import Path

import msgspec
import pytest

from rowmill.interface.ui import report_page
from rowmill.interface.ui.report_page import keep_page, page
from tests.interface.ui.shells import shell_of
from tests.runs.report.written import configured, line_of, write_run


def test_everything_is_in_the_one_file(tmp_path: Path) -> None:
    texts = ["</script><script>x()</script>", "<!--", "]]>", "&amp;", "\u2028\u2029", "\\u003c", "\\"]
    document = msgspec.json.encode({"texts": texts, "SCRIPT-HASHES": '<script src="one.js"></script>'})
    made = page(document, shell_of(tmp_path)).decode()
    hashes = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in (b"1;", b"2;")]
    assert f"script-src 'sha256-{hashes[0]}' 'sha256-{hashes[1]}'\">" in made
    assert "<style>b{}</style>" in made
    assert made.endswith("<script>1;</script>\n<script>2;</script>\n</body></html>\n")
    (inner,) = re.findall(r'id="facts">(.*?)</script>', made, re.DOTALL)
    assert not set(inner) & set("<>&\u2028\u2029")
    assert msgspec.json.decode(inner)["texts"] == texts
    assert msgspec.json.decode(inner) == msgspec.json.decode(document)


def test_the_page_of_a_run_is_kept_as_private_as_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "__defaults__", (shell_of(tmp_path),))
    config = configured(tmp_path)
    directory = write_run(config, [line_of(0, "x")])
    path = keep_page(config)
    assert path == directory.page == config.run_dir / "report.html"
    assert path.stat().st_mode & 0o777 == 0o600
    assert b'"index":0' in path.read_bytes()
    assert not directory.log.exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("a defect"), RecursionError()])
def test_a_page_that_cannot_be_written_is_a_line_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    config = configured(tmp_path)
    directory = write_run(config, [line_of(0, "x")])

    def fail(*_: object, **__: object) -> bytes:
        raise error

    monkeypatch.setattr(report_page, "run_page", fail)
    assert keep_page(config) is None
    line = directory.log.read_text(encoding="utf-8")
    why = {OSError: "No space left on device", ValueError: "a defect", RecursionError: "RecursionError"}[type(error)]
    assert line.endswith(f"Z the page of the report was not made: {why}\n")
    directory.log.unlink()
    directory.log.mkdir()
    assert keep_page(config) is None
