"""Packages that a plain installation does not have: which extra brings each, told before anything needs it."""

from importlib.util import find_spec
from typing import Literal

from rowmill.core.errors import ConfigError

_EXTRAS = {
    "pyarrow": "parquet",
    "numpy": "embeddings",
    "aiohttp": "simulator",
    "prometheus_client": "metrics",
    "opentelemetry": "otlp",
    "pypdfium2": "documents",
    "usearch": "dedup",
}
_WHOLE = {"opentelemetry": "opentelemetry.exporter.otlp.proto.http"}  # others bring a part of it
SERVING = "the simulator's connections"  # what needs aiohttp


Package = Literal["pyarrow", "numpy", "aiohttp", "prometheus_client", "opentelemetry", "pypdfium2", "usearch"]


def missing(package: Package) -> str | None:
    """Return the command that installs a package; None where it is installed. Nothing of it is imported."""
    try:
        found = find_spec(_WHOLE.get(package, package))
    except ModuleNotFoundError:  # what it would lie in
        found = None
    return f"pip install 'rowmill[{_EXTRAS[package]}]'" if found is None else None


def need(package: Package, what: str) -> None:
    """Refuse what needs a package that is not installed.

    what: what needs it, in words that stand before "need". Raises `ConfigError`.
    """
    if (command := missing(package)) is not None:
        raise ConfigError(f"{what} need {package}, which is not installed: {command}")
