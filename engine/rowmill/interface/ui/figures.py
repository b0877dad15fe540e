"""Numbers as people read them: short, in plain ASCII, the same in the progress lines and in the summary."""

import math

from rowmill.core.plain_text import one_line

_THOUSAND = 1000
_TEN = 10
_LEAST_USD = 1e-6  # a token of the cheapest models costs less, and nobody wants to count the zeros
_DIME = 0.0995  # what would print as "$0.10"


def duration(seconds: float) -> str:
    """Return a wait or a span: "0.4s", "38s", "9m58s", "2h05m", "3d04h"."""
    if seconds < _TEN:
        return f"{max(seconds, 0.0):.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def clock(seconds: float) -> str:
    """Return a count-down as a clock shows it: "0:38", "12:00", "1:02:03"; from two days on "2d03h"."""
    whole = round(max(seconds, 0.0))
    if whole >= 2 * 86_400:
        return duration(whole)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def compact(number: float) -> str:
    """Return a large count in three or four characters: "950", "1.2k", "45k", "1.2M", "3.4G"."""
    scaled = float(number)
    for unit in ("", "k", "M", "G"):
        # 999.5 and more would print as "1000": the next unit is the right one.
        if scaled < _THOUSAND - 0.5:
            return f"{scaled:.1f}{unit}" if unit and scaled < _TEN - 0.05 else f"{scaled:.0f}{unit}"
        scaled /= _THOUSAND
    return f"{scaled:.1f}T"


def money(usd: float) -> str:
    """Return dollars: "$1,234", "$1.23", "$0.014", "$0.0042"; cents from a dime on, below it two significant digits."""
    if usd < 0:
        return f"-{money(-usd)}"
    if usd >= _THOUSAND - 0.005:  # what would print as "$1,000.00"
        return f"${usd:,.0f}"
    if usd >= _DIME or not usd:
        return f"${usd:.2f}"
    if usd < _LEAST_USD:
        return f"<${_LEAST_USD:.6f}"
    whole, _, decimals = f"{usd:.{1 - math.floor(math.log10(usd))}f}".partition(".")
    return f"${whole}.{decimals.rstrip('0'):0<2}"


def rate(rows_per_s: float) -> str:
    """Return a rate with its unit: "0.4 rows/s", "1,234 rows/s"."""
    return f"{rows_per_s:.1f} rows/s" if rows_per_s < _TEN else f"{rows_per_s:,.0f} rows/s"


def number(value: float) -> str:
    """Return a limit as it was written: "6,000", "90", "0.5"; with two digits where it is small and broken."""
    return f"{value:,.0f}" if value >= _TEN or value.is_integer() else f"{value:.2g}"


def per_second(limit: float) -> str:
    """Return a limit with its unit: "1,000/s", "0.5/s"."""
    return f"{number(limit)}/s"


def times(count: int) -> str:
    """Return "once", or "12 times"."""
    return "once" if count == 1 else f"{count:,} times"


def memory(size: int) -> str:
    """Return a size in bytes as "45 MiB" or "1.2 GiB"."""
    mebibytes = size / 2**20
    return f"{mebibytes:.0f} MiB" if mebibytes < _THOUSAND else f"{mebibytes / 1024:.1f} GiB"


def volume(size: int) -> str:
    """Return a number of bytes as "812 kB", "34 MB" or "1.2 GB"."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}" if size < 10 * unit else f"{size / unit:,.0f} {name}"
    return f"{-(-size // 1000):,} kB"


def share(part: int, whole: int) -> str:
    """Return "20.6%". Below the whole it never rounds up to "100.0%": that would read as finished."""
    if part >= whole:
        return "100.0%"
    return f"{min(part / whole * 100, 99.9):.1f}%"


def used(part: float, whole: float) -> str:
    """Return how much of a cap is spent: "99.7%". It rounds down, and may be above "100.0%"."""
    if whole <= 0:
        return "all"
    # The tiny addition: as computers count, 0.35 of 5 is a little below 7%. Far above the cap nobody needs a figure.
    return f"{math.floor(min(part / whole, _THOUSAND) * 1000 + 1e-9) / 10:.1f}%"


def clipped(text: str, length: int) -> str:
    """Return the text in one line of at most so many characters; what a server names may be of any length."""
    text = one_line(text[: length + 1])
    return text if len(text) <= length else f"{text[: length - 3]}..."


def counted(counts: dict[str, int]) -> list[str]:
    """Return named counts as "name 12", the highest first, equal ones by name; zeros are left out."""
    return [
        f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if count
    ]
