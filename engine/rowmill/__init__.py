"""Rowmill: a file of rows in, a file of model replies out, in order, none lost, none paid for twice.

`run` runs a whole configuration; `map` answers rows that a program holds. Both are imported when they are first asked
for: every process of a run imports this package, and most need neither.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.api import Report, map, run  # noqa: A004 - engine.map is what it does
    from engine.errors import (
        BudgetError,
        ConfigError,
        InputError,
        MachineError,
        ProviderError,
        RowmillError,
        RunDirectoryError,
    )
    from engine.frames import Result, RowError
else:

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from engine import api

        # All at once: the next look finds them without coming here.
        globals().update({each: getattr(api, each) for each in __all__})
        return globals()[name]


__version__ = "0.1.0"

__all__ = [
    "BudgetError",
    "ConfigError",
    "InputError",
    "MachineError",
    "ProviderError",
    "Report",
    "Result",
    "RowError",
    "RowmillError",
    "RunDirectoryError",
    "map",
    "run",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
