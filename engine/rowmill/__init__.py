"""Rowmill: a file of rows in, a file of model replies out, in order, none lost, none paid for twice.

`run` runs a whole configuration; `map` answers rows that a program holds; `arun` and `amap` are the same to be awaited.
`near_duplicates` says which vectors are near to an earlier one.
They are imported when they are first asked for: every process of a run imports this package, and most need none.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rowmill.core.errors import (
        BudgetError,
        ConfigError,
        InputError,
        MachineError,
        ProviderError,
        RowmillError,
        RunDirectoryError,
    )
    from rowmill.core.version import __version__ as __version__
    from rowmill.interface.python.answers import Report, Result, ResultList, RowError, report_of
    from rowmill.interface.python.calls import amap, arun, map, run  # noqa: A004 - rowmill.map is what it does
    from rowmill.interface.python.near import near_duplicates
    from rowmill.runs.near_duplicates import Duplicate
else:

    def __getattr__(name: str) -> Any:
        if name not in {*__all__, "__version__"}:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name == "__version__":
            from rowmill.core.version import __version__

            return __version__
        from rowmill.interface.python import calls

        # All at once: the next look finds them without coming here.
        globals().update({each: getattr(calls, each) for each in __all__})
        return globals()[name]


__all__ = [
    "BudgetError",
    "ConfigError",
    "Duplicate",
    "InputError",
    "MachineError",
    "ProviderError",
    "Report",
    "Result",
    "ResultList",
    "RowError",
    "RowmillError",
    "RunDirectoryError",
    "amap",
    "arun",
    "map",
    "near_duplicates",
    "report_of",
    "run",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
