"""Packages that a plain installation does not have: which extra brings each, told before anything needs it."""

from importlib.util import find_spec
from typing import Literal

from rowmill.core.errors import ConfigError

_EXTRAS = {"pyarrow": "parquet", "numpy": "embeddings"}


def need(package: Literal["pyarrow", "numpy"], what: str) -> None:
    """Refuse what needs a package that is not installed. Nothing is imported.

    what: what needs it, in words that stand before "need". Raises `ConfigError`.
    """
    if find_spec(package) is None:
        raise ConfigError(f"{what} need {package}, which is not installed: pip install 'rowmill[{_EXTRAS[package]}]'")
