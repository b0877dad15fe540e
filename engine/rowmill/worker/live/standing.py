"""How a provider stands: what was let through, when, and how it ended, as far as an answer may still change it.

Failures and refusals open questions: whose a refusal is, whether anything is let through at all, whether a 429 stands
alone, whether the same error meets row after row. What asks them keeps its own book (`flow.doubt`, `flow.limits`); here
is the one place where all of them hear how a request has ended. Nearly all answers come while nothing is open, and
change nothing: the hot path looks at `asks` and passes them by.
"""

from collections.abc import Callable

import msgspec

from rowmill.core.counts import DeadEnd, ProviderReport
from rowmill.core.leases import Lease
from rowmill.core.wire import Failure, Request
from rowmill.flow.doubt import Doubt, Verdict
from rowmill.flow.limits.silence import Unheard, wait_s
from rowmill.flow.limits.singled import Singled
from rowmill.flow.limits.strays import Strays
from rowmill.transport import dead_ends, faults

_TRIP = 20  # unhealthy results in a row, with no valid reply between, until a worker stops by itself
_TRIP_UNPROVEN = 3  # and where nothing was ever answered, of what speaks of the way to the server
_DIFFERENT = 20  # a valid reply takes so much off a streak of one error: "nearly every row" is 19 of 20
_REASON_CHARACTERS = 500


class _ModelAsked(msgspec.Struct, gc=False):
    model: str = ""


_decode_model = msgspec.json.Decoder(_ModelAsked).decode


class Standing:
    """How one provider stands in one worker.

    asks: something is open, so the next answer is to be told. Whatever opens something sets it, and every lease does,
    which brings the word of other workers; only an answer that leaves nothing open takes it back.
    proven: the provider has answered in this session, as far as is known here.
    last: hardly any but rows that have failed are left, see `Lease`.
    fails_rows: its latest unhealthy result may come of what the row asks.
    """

    def __init__(
        self,
        *,
        workers: int = 1,
        url: str = "",
        by_model: bool = False,
        model: str | None = None,
        failed_before: bool = False,
    ) -> None:
        """`workers`, `url`, `by_model`, `model`, `failed_before`: see `Provider`."""
        self.asks = True
        self.proven = False
        self._known = False
        self._silent = False
        self._answered = False  # here
        self._doubt = Doubt(workers)
        self._unheard = Unheard()
        self._strays = Strays()
        self._singled = Singled()
        self._limit: Failure | None = None  # the latest 429, where nothing was ever answered
        self._asked_s = 0.0  # the longest wait that one has asked for
        self._own = 0  # 429s that speak of their row alone
        self._refused_since: float | None = None  # since it was known last to let something through
        self._alone = workers == 1
        self._by_model = by_model
        self._failed_before = failed_before
        self._model = model
        self._no_models: set[str] = set()  # that rows have named, and that are not there; two at most
        self._url = url
        self._feeling: int | None = None  # requests in flight, while nothing was heard yet
        self._on_felt: Callable[[], None] | None = None
        self._streak = 0  # unhealthy results in a row
        self._streak_from = 0.0  # since when
        self._same = 0  # rows in a row, nearly, that have failed with the same error
        self._error: object = None
        self._refusal: Failure | None = None  # that failed rows here before there was any answer
        self._refusals = 0  # of different kinds
        self._doubted: Failure | None = None  # the latest refusal that may be its own
        self.fails_rows = False
        self.last = False
        self._trouble: Failure | None = None  # the latest unhealthy result since the last report

    def __repr__(self) -> str:
        words = [word for word in ("asks", "proven") if getattr(self, word)]
        return f"<{', '.join([*words, f'streak {self._streak}', f'doubt {self._doubt}', f'strays {self._strays}'])}>"

    # What is heard

    def leased(self, lease: Lease) -> None:
        """Hear from all workers, by a lease."""
        self.proven = self._answered or lease.proven
        self._silent = lease.silent
        self._known = lease.known
        self.last = lease.last
        self._unheard.told(silent=lease.silent, proven=lease.proven)
        if lease.proven and not lease.silent:
            self._refused_since = None
        self.asks = True

    def feel(self, most: int, on_felt: Callable[[], None]) -> None:
        """Allow so few requests in flight until the first answer, or until `felt`."""
        self._feeling, self._on_felt = most, on_felt
        self.asks = True

    def felt(self) -> Callable[[], None] | None:
        """Allow as many as the lease does; returns what is to be called where it was fewer until now."""
        on_felt, self._on_felt, self._feeling = self._on_felt, None, None
        return on_felt

    def answered(self, started: float, row: int) -> bool:
        """Hear an answer to what was sent then; True where it clears the provider, so that more is allowed."""
        self._answered = self.proven = True
        if self._streak and started > self._streak_from:
            self._streak = 0  # a reply to a request from before the failures does not speak for the server's health now
        if self._unheard.waits:
            self._unheard.answered(started)
        if self._strays.asks:
            self._strays.answered(started)
        self._same = max(0, self._same - _DIFFERENT)
        if self._singled.rows:
            self._singled.passed(row)
        cleared = bool(self._doubt.rows) and self._doubt.answered(started)
        self.asks = bool(
            self._streak
            or self._unheard.waits
            or self._strays.asks
            or self._same
            or self._doubt.rows
            or self._singled.rows
        )
        return cleared

    def limited(self, failure: Failure, started: float) -> None:
        """Hear a 429 to what was sent then."""
        self._unheard.refused(started)
        if self.never_answered:
            self._limit = failure
            self._asked_s = max(self._asked_s, failure.retry_after or 0.0)
        self.asks = True

    def kept_out(
        self, row: int, now: float, *, answers: int, in_flight: int, limited: bool, left: int
    ) -> tuple[bool, int]:
        """Hear of a failure that may be the provider's; see `flow.limits.singled`. `limited`: it was a 429."""
        self.asks = True
        alone, spent = self._singled.refused(row, now, answers=answers, in_flight=in_flight, left=left)
        self._own += alone and limited
        return alone, spent

    def let_through(self, row: int) -> None:
        """Hear that the provider was well for a row, whatever has become of it then."""
        self._singled.passed(row)

    def ended(self, row: int, *, answered: bool) -> None:
        """Hear that a row that may have been refused here has come to its end, here or at another provider."""
        if answered:
            self._singled.passed(row)  # so nothing was wrong with it
        else:
            self._singled.forget(row)
        self._doubt.ended(row)

    def failed(self, failure: Failure, now: float, *, counts: bool) -> bool:
        """Hear a failure; True where the worker is to stop by itself. `counts`: an unhealthy one belongs to a streak.

        Where nothing was ever answered and the way to the server fails, that takes one failure, or three.
        """
        self.asks = True
        if not failure.fault.unhealthy:
            self._streak = 0
            return False
        self._trouble = failure
        self.fails_rows = faults.may_be_of_row(failure)
        if self.last or not counts:
            return False
        if not self._streak:
            self._streak_from = now
        self._streak += 1
        return self._streak >= self._trips_at(failure)

    def starts_anew(self) -> None:
        """Forget the failures in a row: the worker goes on after it has stopped by itself."""
        self._streak = 0

    def doubted(
        self, row: int, request: Request, failure: Failure, now: float, *, whole: bool, single: bool
    ) -> Verdict:
        """Say whose a refusal is that may be the row's or the provider's; see `flow.doubt`."""
        if self._by_model and faults.names_model(failure) and self._is_rows_own(request):
            self._doubt.forget(row)
            return "row"
        self._doubted = failure
        self.asks = True
        whole = whole and not self._by_model
        proven = self.proven or (self._known and self._failed_before and not whole)
        return self._doubt.refused(
            row, now, proven=proven, whole=whole, single=single, news=not self._alone, known=self._known
        )

    def _is_rows_own(self, request: Request) -> bool:
        """Whether the model that is not there is the row's own: another than other rows would ask for."""
        try:
            model = _decode_model(request.body).model
        except msgspec.DecodeError:
            return False
        if self._model is not None:
            return model != self._model
        if len(self._no_models) <= 1:  # every row may name one of its own
            self._no_models.add(model)
        return len(self._no_models) > 1

    def same_error(self, error: object) -> int:
        """Count a permanent failure of a row; returns how many in a row, nearly, were the same."""
        self._same = self._same + 1 if error == self._error else 1
        self._error = error
        self.asks = True
        return self._same

    def refused(self, failure: Failure) -> None:
        """Take note of what a row has failed for, for good."""
        if not self.proven:
            kind = failure.fault, failure.code, failure.status
            seen = self._refusal
            self._refusals += seen is None or kind != (seen.fault, seen.code, seen.status)
            self._refusal = failure

    # What it says

    def most(self, allowed: int) -> int:
        """Return how many requests may be in flight where a lease allows so many."""
        if self._feeling is not None:
            allowed = min(allowed, self._feeling)
        return min(allowed, self._doubt.room(proven=self.proven)) if self._doubt.rows else allowed

    def wait_s(self, asked_s: float | None, started: float, answers: int, now: float, *, sent: int) -> float | None:
        """Return how long to send nothing after a 429 that asks for so long; None where it is for the row to wait.

        answers: valid replies so far. sent: requests so far that were not refused.
        """
        if self._refused_since is None:
            self._refused_since = now
        silent = self._silent or not self.proven
        self.asks = True
        if self._strays.refused(asked_s, started, answers, now, sent=sent) and not silent:
            return None
        return wait_s(asked_s, now - self._refused_since, silent=silent)

    @property
    def quiet_until(self) -> float:
        """Until when nothing is sent, for word of other workers' answers may come by then; 0 where none is awaited."""
        return 0.0 if self._alone or self.proven else self._doubt.quiet_until

    def doubt_s(self, row: int) -> float:
        """Return for how long a row waits that was refused and is tried again."""
        return self._doubt.wait_s(row)

    def _trips_at(self, failure: Failure) -> int:
        match self.dead_end(failure):
            case "":
                return _TRIP
            case "nothing":
                return 1
            case "another":
                return 1 if failure.part == "tls" else _TRIP_UNPROVEN
            case "broken":
                return _TRIP_UNPROVEN

    @property
    def never_answered(self) -> bool:
        """Whether nothing is known of an answer in this run: then a 429 says nothing of its row."""
        return not self.proven and not self._known

    def dead_end(self, failure: Failure) -> DeadEnd:
        """Say whether a failure speaks of the way to a server that has never answered, as far as is known here."""
        return "" if self.proven or not self._url else faults.dead_end(failure)

    def is_not_there(self, failure: Failure) -> bool:
        """Whether a failure says nothing of its row: it speaks of a server that has never answered in this run."""
        if self.dead_end(failure):
            return True
        return bool(self._url) and not self._known and not self.proven and faults.nobody_behind(failure)

    def silence(self, seconds: float, timeout_s: float) -> str:
        """Return what to say of one that has taken requests, and sent nothing back for so long; "" where it is fine."""
        known = not self._url or self._known or self.proven
        return "" if known else dead_ends.silent(self._url, seconds, timeout_s)

    def reason(self, failure: Failure) -> str:
        """Return a failure for people: where nothing was ever answered, with what is to be changed."""
        told = not self.proven and (self.is_not_there(failure) or failure.fault.scope == "either")
        return dead_ends.told(failure, self._url) if told and self._url else failure.reason

    # The report

    def tell(self, report: ProviderReport) -> None:
        """Say in a report how the provider stands."""
        report.trouble = self.reason(self._trouble)[:_REASON_CHARACTERS] if self._trouble is not None else ""
        report.dead_end = self.dead_end(self._trouble) if self._trouble is not None else ""
        report.doubted = len(self._doubt.rows)
        report.refusal = self._refused()
        if self._limit is not None and self.never_answered:
            report.limit, report.asked_s = self._limit.reason[:_REASON_CHARACTERS], self._asked_s
        report.early = self._unheard.early + self._own

    def _refused(self) -> str:
        """Return why rows were refused here before there was any answer; "" where that differs."""
        if self.proven:
            return ""
        if self._doubt.rows and self._doubted is not None:
            return self.reason(self._doubted)[:_REASON_CHARACTERS]
        return self._refusal.reason[:_REASON_CHARACTERS] if self._refusal is not None and self._refusals == 1 else ""

    def reported(self) -> None:
        """Forget what stood for the time up to the report that has now been sent."""
        self._trouble = None
