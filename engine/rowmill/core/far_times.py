"""Dates and times in years that Python has not, as texts of ISO 8601: `+33658-09-27T01:46:40`, `-0044-03-15`.

A year beyond 9999 has a sign there, and as many digits as it needs; those from 0 to 9999 have four. The calendar is the
Gregorian one, also before it was. It repeats itself every 400 years, which are whole weeks.
"""

from datetime import date, timedelta

_CYCLE_DAYS = 146_097
_CYCLE_YEARS = 400
_EPOCH = date(2000, 1, 1)  # the first day of a cycle
_EPOCH_DAYS = 10_957  # since 1970
_FOUR_DIGITS = 9999


def day_text(days: int) -> str:
    """Return the date that lies so many days after 1970-01-01."""
    cycles, rest = divmod(days - _EPOCH_DAYS, _CYCLE_DAYS)
    day = _EPOCH + timedelta(rest)
    year = day.year + cycles * _CYCLE_YEARS
    sign = "-" if year < 0 else "+" if year > _FOUR_DIGITS else ""
    return f"{sign}{abs(year):04}-{day.month:02}-{day.day:02}"


def days_of(text: str) -> int:
    """Return how many days after 1970-01-01 a date lies. Raises `ValueError` for a text that is none."""
    year, month, day = text.rsplit("-", 2)
    cycles, rest = divmod(int(year) - _EPOCH.year, _CYCLE_YEARS)
    return (date(_EPOCH.year + rest, int(month), int(day)) - _EPOCH).days + cycles * _CYCLE_DAYS + _EPOCH_DAYS


def moment_text(count: int, parts: int) -> str:
    """Return the time that lies so many parts of a second after 1970; parts: of a second, 1 to 10**9."""
    seconds, fraction = divmod(count, parts)
    days, rest = divmod(seconds, 86_400)
    digits = f".{fraction * (10**9 // parts):09}".removesuffix("000") if fraction else ""
    return f"{day_text(days)}T{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}{digits}"
