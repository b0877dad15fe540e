"""What pages of docs/ say that is made from the code when the site is built, so that it cannot be another thing."""

import re

from scripts.reference import cli_page, config_page

_MAKERS = {"config": config_page.text, "cli": cli_page.text}
_PLACE = re.compile(r"^<!-- made from the code: (\w+) -->$", re.MULTILINE)


def filled(page: str) -> str:
    """Return a page's Markdown with what is made from the code in its places."""
    return _PLACE.sub(lambda place: _MAKERS[place[1]](), page)
