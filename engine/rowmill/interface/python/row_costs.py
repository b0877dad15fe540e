"""What single rows have cost: the reply that answered a row, at the price of the model that gave it."""

from collections.abc import Iterator
from typing import Any

import msgspec

from rowmill.core.amounts import Price, Spent
from rowmill.core.config import Config
from rowmill.core.reports import RunReport
from rowmill.interface.python.answers import Result
from rowmill.interface.python.place import MapPlace
from rowmill.runs.row_prices import row_prices
from rowmill.tasks.factory import rows_per_request
from rowmill.tasks.replies import counted


class _Meta(msgspec.Struct):
    provider: str | None = None
    requests: int = 0


class _PaidRow(msgspec.Struct):
    """What of an output line says what its reply cost."""

    meta: _Meta
    model: str | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")


class RowCosts:
    """Prices of everything that rows were answered by."""

    def __init__(self, config: Config, place: MapPlace, report: RunReport) -> None:
        """Look up what the results name. They must have been written with "meta"."""
        self._place = place
        pairs = sorted({pair for row in _rows(place) if (pair := _answered_by(row)) is not None})
        self._prices: dict[tuple[str, str], Price] = {
            pair: price for pair, price in zip(pairs, row_prices(config, pairs), strict=True) if price is not None
        }
        modes = {line.mode for line in report.cost.lines} if report.cost is not None else set()
        self._batch = modes == {"batch"}
        self._mixed = len(modes) > 1  # nobody knows which of the two a row was answered by
        self._packed = rows_per_request(config.task) > 1
        self._shared = self._share(report)

    @staticmethod
    def _share(report: RunReport) -> float | None:
        """Return the even share of rows that share requests: replies say what they took, and not for whom."""
        if report.cost is None or report.cost.usd is None or not report.totals.rows > report.totals.failed:
            return None
        return (report.cost.usd - (report.cost.retries_usd or 0.0)) / (report.totals.rows - report.totals.failed)

    def each(self, results: Iterator[Result[Any]]) -> Iterator[Result[Any]]:
        """Yield the results with what they cost; None where that is not known, 0 where the reply was there already."""
        for result, row in zip(results, _rows(self._place), strict=True):
            shared = self._shared if result.error is None else None
            cost = shared if self._packed else self._cost(row)
            yield msgspec.structs.replace(result, cost=cost)

    def _cost(self, row: _PaidRow) -> float | None:
        if not row.meta.requests:
            return 0.0
        pair, usage = _answered_by(row), bytes(row.usage)
        if pair is None or pair not in self._prices or usage == b"null" or self._mixed:
            return None
        prompt, completion, cached_tokens = counted(usage)
        spent = Spent(1, prompt, cached_tokens, completion)
        return self._prices[pair].usd(spent, batch=self._batch)


def _answered_by(row: _PaidRow) -> tuple[str, str] | None:
    return None if row.meta.provider is None or row.model is None else (row.meta.provider, row.model)


def _rows(place: MapPlace) -> Iterator[_PaidRow]:
    with place.results.open("rb") as file:
        yield from map(msgspec.json.Decoder(_PaidRow).decode, file)
