"""The openai package without what no process here asks of it: two thirds of its start.

There are over four hundred modules of types, and `openai.types` and its packages import every one, whatever a program
asks of the package; `openai.lib`, of which a client needs two modules, brings in fifty for the sake of its own names.
Once `load_lazily` was called, such a package whose `__init__` does nothing but gather names from its modules imports a
module when a name of it is asked for. The names and what they are stay the package's own. And its client by aiohttp,
which takes as long to import as all else, is not found, as where aiohttp is not installed.
"""

import re
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

_TYPES = "openai.types"
_HELPERS = "openai.lib"
_BY_AIOHTTP = "openai._vendor.httpx_aiohttp"
_IMPORT = re.compile(r"^from (\.[\w.]*) import (?:\(([^()]*)\)|([^()\n*]+))$", re.MULTILINE)
_NOTHING = re.compile(r"^(?:#.*|from __future__ import .*)?$\n?", re.MULTILINE)


class _Package(SourceFileLoader):
    """Loads a package that may only gather names."""

    def exec_module(self, module: ModuleType) -> None:
        places = _gathered(self.get_data(self.get_filename(module.__name__)).decode())
        if places is None:
            super().exec_module(module)
            return

        def found(name: str) -> Any:
            if name not in places:
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            where, what = places[name]
            value = getattr(import_module(where, module.__name__), what)
            setattr(module, name, value)
            return value

        names: dict[str, Callable[..., Any]] = {"__getattr__": found, "__dir__": lambda: sorted(places)}
        vars(module).update(names)


def _gathered(text: str) -> dict[str, tuple[str, str]] | None:
    """Return where each name comes from, its module and what it is called there; None where more is done than that."""
    if _NOTHING.sub("", _IMPORT.sub("", text)).strip():
        return None
    places = {}
    for module, several, one in _IMPORT.findall(text):
        for line in (several or one).splitlines():
            for each in filter(None, map(str.strip, line.partition("#")[0].split(","))):
                what, _, name = each.partition(" as ")
                places[name or what] = (module, what)
    return places


class _Finder:
    """Finds the packages of types and the one of helpers, and has nobody find the client by aiohttp."""

    @staticmethod
    def find_spec(name: str, path: Any = None, _target: object = None) -> ModuleSpec | None:
        if name == _BY_AIOHTTP:
            raise ModuleNotFoundError(name)
        if name not in (_TYPES, _HELPERS) and not name.startswith(f"{_TYPES}."):
            return None
        spec = PathFinder.find_spec(name, path)
        # Of files alone: what lies in an archive is loaded as it is.
        if spec is not None and spec.submodule_search_locations is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Package(name, spec.loader.path)
        return spec


def load_lazily() -> None:
    """Have this process import of the package what it asks for. To be called before it imports the package."""
    if not any(each is _Finder for each in sys.meta_path):
        sys.meta_path.insert(0, _Finder)
