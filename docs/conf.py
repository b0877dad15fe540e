"""How Sphinx makes the site of these pages: `scripts/docs`.

The pages are plain Markdown, to be read as files too. What is generated from the code is put into a page as it is read.
"""

from sphinx.application import Sphinx

from rowmill.core.version import __version__
from scripts import reference

project = "Rowmill"
author = "Rowmill contributors"
release = __version__
extensions = ["myst_parser"]
exclude_patterns: list[str] = []

# Links are written as for files, `page.md#part`: the anchors are those that GitHub makes of the same headings.
myst_heading_anchors = 4
myst_enable_extensions = ["deflist", "attrs_block"]
suppress_warnings: list[str] = []  # none: a link or an anchor that leads nowhere fails the build

smartquotes = False  # "--set" stays what is typed

html_theme = "furo"
html_title = "Rowmill"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"


def _fill(_app: Sphinx, _page: str, content: list[str]) -> None:
    content[0] = reference.filled(content[0])


def setup(app: Sphinx) -> None:
    """Have pages filled with what is made from the code, as they are read."""
    app.connect("source-read", _fill)
