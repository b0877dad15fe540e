"""The openai package without the types of what it sends and gets back: two thirds of its import, for one process.

Every module of `openai.types` is an empty one whose names all stand for one type that is anything. What a request is
(its URL, its headers, what a client refuses of its settings) is made elsewhere, by the package's own code. Bodies are
not, so nothing but the resolver may import it like that.
"""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Self

_TYPES = "openai.types"


class _Anything:
    """A type that is any other: a base, a part of a union, the type of a member."""

    def __class_getitem__(cls, _of: object) -> type[Self]:
        return cls

    def __init_subclass__(cls, **_options: object) -> None:
        """Take what any base takes."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> dict[str, str]:
        return {"type": "any"}


class _Types(ModuleType):
    """A module that has every name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything


class _Finder:
    """Finds the modules of the types, and is what loads them."""

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        if name != _TYPES and not name.startswith(f"{_TYPES}."):
            return None
        return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]  # it loads, and need be no Loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Types(spec.name)

    def exec_module(self, _module: ModuleType) -> None:
        """Leave it empty."""


def import_bare() -> bool:
    """Import the openai package without its types, and return whether it could be; if not, none of it is there.

    aiohttp is hidden from it, in a process that has not imported that: a fifth of the package's start, for a client
    that nobody here uses.
    """
    sys.modules.setdefault("aiohttp", None)  # type: ignore[arg-type]  # None: it cannot be imported
    finder: Any = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        import openai  # noqa: F401
    except Exception:  # noqa: BLE001 - a version of it that looks into its types as it is imported
        forget()
        return False
    finally:
        sys.meta_path.remove(finder)
    return True


def forget() -> None:
    """Have the next import of the package be one of all of it."""
    for name in [name for name in sys.modules if name == "openai" or name.startswith("openai.")]:
        del sys.modules[name]
