"""A report as a page: one file of HTML that draws what its document says, and fetches nothing.

What is the same in every page lies in `page/`; a page is that, put together, with the document in it.
"""

import os
import re
import time
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from rowmill.core import private_files
from rowmill.core.config import Config
from rowmill.core.plain_text import one_line
from rowmill.runs.report.made import encoded, run_document
from rowmill.store import durable
from rowmill.store.run_directory import RunDirectory

SHELL = Path(__file__).parent / "page"
_STYLE = re.compile(rb'<link rel="stylesheet" href="([\w.-]+)">')
_SCRIPT = re.compile(rb'<script src="([\w.-]+)"></script>')
_HASHES = b"SCRIPT-HASHES"
_FACTS = re.compile(rb'(<script type="application/json" id="facts">)\s*(</script>)')
# What could end the element that the document stands in, or a line of JavaScript for old readers of JSON.
_ESCAPED = {
    b"<": b"\\u003c",
    b">": b"\\u003e",
    b"&": b"\\u0026",
    "\u2028".encode(): b"\\u2028",
    "\u2029".encode(): b"\\u2029",
}


def page(document: bytes, shell: Path = SHELL) -> bytes:
    """Return the page that draws a document of JSON, whatever texts are in it. Raises OSError."""
    hashes: list[bytes] = []

    def script(found: re.Match[bytes]) -> bytes:
        content = (shell / found[1].decode()).read_bytes()
        hashes.append(b"'sha256-%b'" % b64encode(sha256(content).digest()))
        return b"<script>%b</script>" % content

    def style(found: re.Match[bytes]) -> bytes:
        return b"<style>%b</style>" % (shell / found[1].decode()).read_bytes()

    for text, escaped in _ESCAPED.items():
        document = document.replace(text, escaped)
    head, start, rest = (shell / "page.html").read_bytes().partition(b"<body")
    rest = _SCRIPT.sub(script, _FACTS.sub(lambda found: found[1] + document + found[2], rest))
    return _STYLE.sub(style, head).replace(_HASHES, b" ".join(hashes)) + start + rest


def run_page(path: Path, config: Config | None, *, whole: bool) -> bytes:
    """Return the page of the run in a directory. Raises as `run_document` does, and OSError."""
    return page(encoded(run_document(path, config, whole=whole)))


def keep_page(config: Config) -> Path | None:
    """Write the page of a run that has just ended into its directory, and return where it lies; None where it cannot.

    The run has ended as it has, whatever becomes of this: what is wrong is a line of its log.
    """
    directory = RunDirectory(config.run_dir)
    try:
        durable.replace_unsynced(directory.page, run_page(directory.path, config, whole=False))
    except Exception as error:  # noqa: BLE001 - a page that cannot be made spoils no run
        why = isinstance(error, OSError) and error.strerror
        _log(directory.log, f"the page of the report was not made: {why or str(error) or type(error).__name__}")
        return None
    return directory.page


def _log(path: Path, line: str) -> None:
    try:
        fd = private_files.opened(path, private_files.APPEND)
    except OSError:
        return
    try:
        os.write(
            fd, f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {one_line(line)}\n".encode(errors="replace")
        )
    except OSError:
        pass  # a full disk, which the run itself has told
    finally:
        os.close(fd)
