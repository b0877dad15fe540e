"""Of the openai package what is asked for is imported, and the types are those of the whole package."""

import subprocess
import sys

import pytest

from rowmill.transport.lazy_types import _gathered

# In a process that has imported all: what each package has, and what it would have of the very same modules.
_ALL = """
import importlib, openai.lib, openai.types, sys
from importlib.util import module_from_spec
from rowmill.transport.lazy_types import _Finder
checked = 0
for name in ["openai.lib", *(name for name in sys.modules if name.startswith("openai.types"))]:
    whole = sys.modules[name]
    if not hasattr(whole, "__path__"):
        continue
    package = importlib.import_module(name.rpartition(".")[0])
    lazy = module_from_spec(_Finder.find_spec(name, package.__path__))
    lazy.__spec__.loader.exec_module(lazy)
    names = {each for each in vars(whole) if each[0] != "_" and f"{name}.{each}" not in sys.modules} - {"annotations"}
    assert names <= {*dir(lazy)}, (name, names - {*dir(lazy)})
    for each in names:
        assert getattr(lazy, each) is getattr(whole, each), (name, each)
    checked += len(names)
print(checked)
"""


def test_every_name_is_there_and_is_what_it_is_in_the_whole_package() -> None:
    done = subprocess.run([sys.executable, "-c", _ALL], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 400


# What a worker of batches and a cancellation use. aiohttp itself stays what others import, as those that read s3:// do.
_CLIENT = """
import sys
from rowmill.transport.lazy_types import load_lazily
load_lazily()
import rowmill.transport.batch_api
print(*sorted({"aiohttp", "openai.lib._parsing", "openai.types.chat.chat_completion", "openai"} & {*sys.modules}))
import aiohttp
"""


def test_a_client_imports_neither_another_one_nor_types_that_nobody_has_named() -> None:
    done = subprocess.run([sys.executable, "-c", _CLIENT], capture_output=True, text=True, check=True)
    assert done.stdout == "openai\n"


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("", {}),
        ("# a\n\nfrom __future__ import annotations\n\nfrom .a import B as B\n", {"B": (".a", "B")}),
        ("from .a import B, C as D\n", {"B": (".a", "B"), "D": (".a", "C")}),
        ("from .a.b import (\n    B as B,  # of it\n    C,\n)\n", {"B": (".a.b", "B"), "C": (".a.b", "C")}),
        ("from .a import B\nB.add()\n", None),
        ("from .a import *\n", None),
        ("from typing import Any\n", None),
        ('"""Text."""\nfrom .a import B\n', None),
    ],
)
def test_what_does_more_than_gather_names_is_left_as_it_is(text: str, places: object) -> None:
    assert _gathered(text) == places
