"""A page's shell that draws nothing: what is put together, without what a browser makes of it."""

from pathlib import Path

HTML = """<!doctype html>
<html><head><meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src SCRIPT-HASHES">
<link rel="stylesheet" href="a.css">
</head><body>
<script type="application/json" id="facts"></script>
<script src="one.js"></script>
<script src="two.min.js"></script>
</body></html>
"""


def shell_of(folder: Path) -> Path:
    """Write one below a folder, and return where."""
    shell = folder / "shell"
    shell.mkdir()
    for name, text in {"page.html": HTML, "a.css": "b{}", "one.js": "1;", "two.min.js": "2;"}.items():
        (shell / name).write_text(text, encoding="utf-8")
    return shell
