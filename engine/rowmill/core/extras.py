"""Packages that a plain installation does not have: which extra brings each, told before anything needs it."""

from importlib.util import find_spec
from typing import Literal

from rowmill.core.errors import ConfigError

_EXTRAS = {"pyarrow": "parquet", "numpy": "embeddings", "aiohttp": "simulator"}
SERVING = "the simulator's connections"  # what needs aiohttp


Package = Literal["pyarrow", "numpy", "aiohttp"]


def missing(package: Package) -> str | None:
    """Return the command that installs a package; None where it is installed. Nothing is imported."""
    return f"pip install 'rowmill[{_EXTRAS[package]}]'" if find_spec(package) is None else None


def need(package: Package, what: str) -> None:
    """Refuse what needs a package that is not installed.

    what: what needs it, in words that stand before "need". Raises `ConfigError`.
    """
    if (command := missing(package)) is not None:
        raise ConfigError(f"{what} need {package}, which is not installed: {command}")
