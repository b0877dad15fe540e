"""The terms of a collection: what it goes by, what came of it, and which requests a try had."""

import msgspec

from rowmill.core.amounts import Spent
from rowmill.core.wire import Failure
from rowmill.store.batch_journal import Try
from rowmill.tasks.forms import Former
from rowmill.worker.batch.custom_ids import rows_of
from rowmill.worker.batch.results import Results
from rowmill.worker.batch.verdicts import Verdict
from rowmill.worker.finish_rules import FinishRules
from rowmill.worker.job import Job

Starts = dict[int, tuple[int, str]]  # first row -> rows of the request, and its custom_id


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says of rows that have failed, and of whom was asked."""

    provider: str  # its name
    attempts: int  # tries that count and in which a row was asked for, until it has failed
    asks: int  # times that a row is asked until its reply is a valid answer
    secrets: tuple[str, ...] = ()  # that must not stand in any message
    former: Former | None = None  # by whom requests were formed
    finish: FinishRules | None = None  # where replies are asked for again, or fail, for how they end


class Collected(msgspec.Struct):
    """What came of a try.

    spent: what the results cost, all of them, whoever has recorded their rows; wasted: that of it which bought no
    answer. closed: what failed in a way in which every row would. tried: rows that are left after something that counts
    as an attempt. missing: rows that were asked for and have no result. unknown: results that are for no row of the
    try. odd_usage: results whose usage is impossible, and was taken as an estimate.
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
    odd_usage: int = 0
    once: list[int] = []  # rows that are left, and are tried again once at most
    faults: dict[str, int] = msgspec.field(default_factory=dict)  # fault class -> results


def starts_of(results: Results, t: Try, most_rows: int) -> tuple[Starts, list[str]]:
    """Return the requests of a try by their first row, with their rows and custom_ids; and the ids of all others."""
    starts: Starts = {}
    others = []
    for name in results:
        rows = rows_of(name)
        if (
            rows is not None
            and t.first_row <= rows[0] <= t.end_row - rows[1]
            and rows[1] <= most_rows
            and rows[0] not in starts
        ):
            starts[rows[0]] = (rows[1], name)
        else:
            others.append(name)
    return starts, others


class RequestRows(msgspec.Struct):
    """The rows of one request."""

    first_row: int
    rows: int
    verdict: Verdict
    jobs: dict[int, Job] = {}  # those that have no outcome yet, by row

    def __contains__(self, row: int) -> bool:
        return self.first_row <= row < self.first_row + self.rows


class Named(msgspec.Struct):
    """Who has answered, as far as the writer asks."""

    name: str
    number: int = 0  # a run by batches asks one provider
