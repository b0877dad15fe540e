"""`config.toml` -> frozen values. Unknown keys, wrong types and bad combinations are refused by key.

Paths are relative to the current directory. No secret is ever part of a `Config`: it holds the name of the
environment variable that has the key, and `credentials` reads it when the run starts.
"""

from typing import TYPE_CHECKING, Any

from rowmill.core.config.sections import (
    OPENAI_URL,
    SIMULATOR,
    Config,
    ProviderConfig,
    TaskConfig,
)

if TYPE_CHECKING:
    from rowmill.core.config.credentials import endpoints
    from rowmill.core.config.fingerprints import fingerprint
    from rowmill.core.config.reading import load, override, parse
else:

    def __getattr__(name: str) -> Any:
        """Import what reads a configuration when it is asked for: workers get one that has been read."""
        if name == "endpoints":
            import rowmill.core.config.credentials as module
        elif name == "fingerprint":
            import rowmill.core.config.fingerprints as module
        elif name in {"load", "override", "parse"}:
            import rowmill.core.config.reading as module
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(module, name)


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
