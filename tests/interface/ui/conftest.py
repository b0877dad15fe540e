"""What looks at pages: a real Chromium, one for all tests of a process."""

from collections.abc import Iterator

import pytest

from tests.interface.ui.chromium import Chromium, executable


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """Start it when the first test needs it."""
    program = executable()
    if program is None:
        pytest.skip("no Chromium here: install one (Debian: apt-get install chromium), or name it in ROWMILL_CHROMIUM")
    with Chromium(program) as started:
        yield started
