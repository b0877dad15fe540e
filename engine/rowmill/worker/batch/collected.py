"""What a collection is told of a try and of the rules for its rows, and what it tells in return."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from rowmill.core.amounts import Spent
from rowmill.core.wire import Failure


class Collected(msgspec.Struct):
    """What came of a try.

    spent: what the results cost, all of them, whoever has recorded their rows; wasted: that of it which bought no
    answer. closed: what failed in a way in which every row would. tried: rows that are left after something that counts
    as an attempt. missing: rows that were asked for and have no result. unknown: results that are for no row of the
    try. unreadable: lines that are no result.
    """

    answered: int = 0  # rows, by this collection
    failed: int = 0
    left: int = 0  # rows of the range without an outcome; the next three are among them
    expired: int = 0
    missing: int = 0
    tried: int = 0
    reasked: int = 0  # rows to be asked again, for a reply that was no valid answer
    packed: int = 0  # rows that shared a request
    tokens_saved: int = 0  # by that
    spent: Spent = msgspec.field(default_factory=Spent)
    wasted: Spent = msgspec.field(default_factory=Spent)
    closed: Failure | None = None
    unknown: int = 0
    unreadable: int = 0
    faults: dict[str, int] = msgspec.field(default_factory=dict)  # fault class -> results


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the try whose results are collected."""

    provider: str  # its name
    number: int  # of the try, from 1
    first_row: int
    end_row: int  # exclusive
    requests: int  # in its file
    file: Path  # that was sent; it may be gone
    completed: bool  # whether the batch came to its end: then a row without a result has been tried
    earlier: Sequence[int]  # of each earlier try that counts: the row up to which it asked; ascending


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says of failed rows."""

    attempts: int  # tries that count and in which a row was asked for, until it has failed
    asks: int  # times that a row is asked until its reply is a valid answer
    secrets: tuple[str, ...] = ()  # that must not stand in any message
