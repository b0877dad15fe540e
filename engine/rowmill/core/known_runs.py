"""A run directory as it is found lying about, for who has many."""

import msgspec


class KnownRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run directory."""

    run_dir: str
    state: str  # "finished", "at work", "stopped"; "damaged": see `problem`
    problem: str = ""
    created: str = ""  # ISO 8601, UTC
    input: str = ""
    output: str = ""
    rows: int = 0  # done
    of: int | None = None  # all; None where they were not counted
    failed: int = 0
    usd: float | None = None  # None: it is not known
    size: int = 0  # bytes of the directory
