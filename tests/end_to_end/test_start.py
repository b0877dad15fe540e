"""What a direct run loads on its way to the first request."""

import os
from collections.abc import Callable

from tests.end_to_end.conftest import Place, Server


def test_no_process_of_a_direct_run_imports_the_openai_package(place: Place, server: Callable[..., Server]) -> None:
    """One stands before it on the path that knows its version and nothing else: who imports that, dies."""
    package = place.folder / "path" / "openai"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('it was imported')\n")
    (package / "_version.py").write_text('__title__ = "openai"\n__version__ = "3.99.1"  # a comment\n')
    place.environ["PYTHONPATH"] = f"{package.parent}{os.pathsep}{place.environ['PYTHONPATH']}"
    place.configure(server().url)
    place.write_rows(3)
    done = place.run()
    assert done.code == 0, done.err
    assert len(place.lines) == 3
