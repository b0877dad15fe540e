"""`config.toml` -> frozen values. Unknown keys, wrong types and bad combinations are refused by key.

Paths are relative to the current directory. No secret is ever part of a `Config`: it holds the name of the
environment variable that has the key, and `credentials` reads it when the run starts.
"""

from rowmill.core.config.credentials import endpoints
from rowmill.core.config.reading import load, override, parse
from rowmill.core.config.sections import (
    OPENAI_URL,
    SIMULATOR,
    Config,
    ProviderConfig,
    TaskConfig,
    fingerprint,
)

__all__ = [
    "OPENAI_URL",
    "SIMULATOR",
    "Config",
    "ProviderConfig",
    "TaskConfig",
    "endpoints",
    "fingerprint",
    "load",
    "override",
    "parse",
]
