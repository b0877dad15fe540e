"""The custom_id of a line: which rows it asks for. `r17` for one, `r17x8` for a pack of rows 17 to 24."""

import re

_CUSTOM_ID = re.compile(r"r(0|[1-9][0-9]{0,14})(?:x([1-9][0-9]{0,8}))?")


def custom_id(first_row: int, rows: int) -> str:
    """Return the id of a line that asks for so many rows from this one on."""
    return f"r{first_row}" if rows == 1 else f"r{first_row}x{rows}"


def rows_of(name: str) -> tuple[int, int] | None:
    """Return the first row of a line's id and how many it has; None where no line was ever given it."""
    found = _CUSTOM_ID.fullmatch(name)
    if found is None:
        return None
    first, rows = int(found[1]), int(found[2] or 1)
    return (first, rows) if custom_id(first, rows) == name else None
