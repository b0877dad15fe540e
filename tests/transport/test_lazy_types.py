"""The openai package's types, imported when they are named, are those of the whole package."""

import json
import subprocess
import sys

import pytest

from rowmill.transport.lazy_types import _gathered

_ALL = """
import importlib, json, pkgutil, sys, warnings
warnings.simplefilter("ignore")
if sys.argv[1] == "lazy":
    from rowmill.transport import lazy_types
    lazy_types.load_lazily()
import openai.types
began = sum(name.startswith("openai.types") for name in sys.modules)
found = {}
packages = ["openai.types"]
packages += [each.name for each in pkgutil.walk_packages(openai.types.__path__, "openai.types.") if each.ispkg]
for name in packages:
    module = importlib.import_module(name)
    for each in dir(module):
        value = None if each.startswith("_") else getattr(module, each)
        if isinstance(value, type):
            found[f"{name}.{each}"] = f"{value.__module__}.{value.__qualname__}"
print(json.dumps([began, found], sort_keys=True))
"""


def types(how: str) -> tuple[int, dict[str, str]]:
    """Return how many modules of types a plain import takes, and every type that can be named with what it is."""
    done = subprocess.run([sys.executable, "-c", _ALL, how], capture_output=True, text=True, check=True)
    began, found = json.loads(done.stdout)
    return began, found


def test_every_name_is_there_and_is_what_it_is_in_the_whole_package() -> None:
    began, found = types("lazy")
    whole_began, whole = types("whole")
    assert found == whole
    assert len(found) > 500
    assert began < whole_began / 4


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
