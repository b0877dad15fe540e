"""A provider as a worker sees it: with its wire, its lease of the provider's budget, and its figures."""

from array import array
from collections.abc import Callable, MutableSequence, Sequence
from random import Random

import msgspec

from rowmill.core import tallies
from rowmill.core.amounts import Spent
from rowmill.core.counts import DeadEnd, ProviderReport
from rowmill.core.leases import Lease
from rowmill.core.tallies import CACHED_TOKENS, COMPLETION_TOKENS, PROMPT_TOKENS
from rowmill.core.wire import Answer, Failure, Reply, Request
from rowmill.flow.doubt import Doubt, Verdict
from rowmill.flow.leases.lease import ClientLease
from rowmill.flow.limits.silence import Unheard, wait_s
from rowmill.flow.limits.strays import Strays
from rowmill.flow.limits.token_estimate import TokenEstimate
from rowmill.transport import Transport, dead_ends, faults, limit_headers

_LOOK_S = 0.1  # limit headers are read this often: they cost more than the rest of a row's bookkeeping
_TRIP = 20  # unhealthy results in a row, with no valid reply between, until a worker stops by itself
_DIFFERENT = 20  # a valid reply takes so much off a streak of one error: "nearly every row" is 19 of 20
_BUSY = 0.5  # share of sends that took the last slot, from which on slots are what is missing
_TRIP_UNPROVEN = 3  # and where nothing was ever answered, of what speaks of the way to the server
_REASON_CHARACTERS = 500
_PAUSE_JITTER = 0.05  # of a Retry-After, added at random: workers that were paused together come back one by one


_decode_name = msgspec.json.Decoder(str | None).decode


class Provider:
    """One provider in one worker.

    in_flight, allowed: requests on the wire, and how many may be.
    report: the sums that go to the supervisor.
    counts: where those of them go that are written down at once: on the worker's board, if it has one (see `tally`).
    same: how long the present streak of one and the same permanent error is.
    """

    def __init__(
        self,
        number: int,
        name: str,
        transport: Transport,
        *,
        weight: float = 1.0,
        secrets: tuple[str, ...] = (),
        fallback: Sequence[int] = (),
        fallback_on: Sequence[str] = (),
        rewrite: Callable[[bytes], bytes] | None = None,
        most_output: int = 0,
        by_model: bool = False,
        workers: int = 1,
        url: str = "",
    ) -> None:
        """`rewrite` makes a built body ask this provider's own model; None where it is the task's.

        by_model: count what each model costs that replies name. workers: so many ask this provider. url: where
        its requests go, as it may be shown; where it is not given, what fails is never taken for the way there.
        """
        self.number = number
        self.name = name
        self.transport = transport
        self.send = transport.send
        self.secrets = secrets
        self.fallback = fallback
        self.fallback_on = frozenset(fallback_on)
        self.rewrite = rewrite
        self.first_choice = weight > 0
        self.lease = ClientLease()
        self.in_flight = 0
        self.allowed = 0
        self.report = ProviderReport()
        self.counts: MutableSequence[int] | memoryview[int] = array("q", bytes(8 * len(tallies.OF_PROVIDER)))
        self.closed = False
        self.failing = False
        self.tripped = False
        self.doubt = Doubt(workers)
        self._proven_elsewhere = False
        self._known = False
        self._silent = False
        self._unheard = Unheard()
        self._strays = Strays()
        self._refused_since: float | None = None  # since it was known last to let something through
        self._alone = workers == 1
        self._url = url
        self._feeling: int | None = None  # requests in flight, while nothing was heard yet
        self._on_felt: Callable[[], None] | None = None
        self.full = 0  # sends that took the last slot, since the last report
        self.same = 0
        self.look_at = 0.0
        self.turn = 0.0  # virtual time: grows with every send, the slower the more weight
        self.stride = 1.0 / weight if weight > 0 else 1.0
        self._streak = 0  # unhealthy results in a row
        self._streak_from = 0.0  # since when
        self._error: object = None
        self._refusal: Failure | None = None  # that failed rows here before there was any answer
        self._doubted: Failure | None = None  # the latest refusal that may be its own
        self._refusals = 0  # of different kinds
        self._estimate = TokenEstimate()
        self.most_output = most_output
        self._by_model = by_model
        self._sent_before = 0
        self._largest = 0
        self._trouble: Failure | None = None  # the latest unhealthy result since the last report

    def __repr__(self) -> str:
        words = [word for word in ("failing", "tripped", "closed") if getattr(self, word)]
        return f"<{self.name}: {', '.join([f'{self.in_flight} of {self.allowed} in flight', *words])}>"

    def apply(self, lease: Lease, now: float) -> tuple[float, float]:
        """Put a lease in force; returns the credit (requests, tokens) that goes back with the one before."""
        returned = self.lease.apply(lease, now)
        self.closed = self.closed or lease.closed
        self.failing = lease.failing
        self._proven_elsewhere = lease.proven
        self._silent = lease.silent
        self._unheard.told(silent=lease.silent, proven=lease.proven)
        self._known = lease.known
        if lease.proven and not lease.silent:
            self._refused_since = None
        # A worker that has stopped by itself goes on once the supervisor has seen it: then a lease says so.
        if self.tripped and (lease.failing or lease.in_flight == 0):
            self.tripped = False
            self._streak = 0
        self._allow()
        return returned

    def _allow(self) -> None:
        self.allowed = 0 if self.closed or self.tripped else self.lease.allowed
        if self._feeling is not None:
            self.allowed = min(self.allowed, self._feeling)
        if self.doubt.rows:
            self.allowed = min(self.allowed, self.doubt.room(proven=self.proven))

    def halt(self) -> None:
        """Send nothing more until the next lease."""
        self.lease.allowed = 0
        self._allow()

    def feel(self, most: int, on_felt: Callable[[], None]) -> None:
        """Send so few at a time until the first answer, or until `felt`: what is there may be no such server."""
        self._feeling, self._on_felt = most, on_felt
        self._allow()

    def felt(self) -> None:
        """Send as the lease says."""
        if self._on_felt is not None:
            on_felt, self._on_felt, self._feeling = self._on_felt, None, None
            self._allow()
            on_felt()

    @property
    def proven(self) -> bool:
        """Whether the provider has answered in this session, as far as is known here."""
        return self._proven_elsewhere or self.report.answered > 0

    def doubted(self, row: int, failure: Failure, now: float, *, whole: bool, single: bool) -> Verdict:
        """Say whose a refusal is that may be the row's or the provider's; see `flow.doubt`."""
        self._doubted = failure
        verdict = self.doubt.refused(
            row, now, proven=self.proven, whole=whole and not self._by_model, single=single, news=not self._alone
        )
        if verdict == "again" and not self._alone and not self.proven:
            self.lease.pause(self.doubt.quiet_until)
        self._allow()
        return verdict

    def close(self) -> None:
        """Send nothing more to it in this session."""
        self.closed = True
        self._allow()

    def debit(self, request: Request) -> int:
        """Return the tokens to debit for a request, where anything is limited."""
        tokens = self._estimate.estimate(request.tokens, self.most_output)
        self._largest = max(self._largest, tokens)
        return tokens

    # What came back

    def answered(self, request: Request, debit: int, answer: Answer, started: float, now: float) -> None:
        """Count a valid reply, and correct what was debited for it by what it says was used."""
        report = self.report
        report.answered += 1
        report.reply_s += now - started
        report.prompt_tokens += answer.prompt_tokens
        report.completion_tokens += answer.completion_tokens
        counts = self.counts
        counts[PROMPT_TOKENS] = report.prompt_tokens
        counts[COMPLETION_TOKENS] = report.completion_tokens
        if answer.cached_tokens:
            report.cached_tokens += answer.cached_tokens
            counts[CACHED_TOKENS] = report.cached_tokens
        if self._by_model:
            self._count_model(answer)
        if self._streak and started > self._streak_from:
            self._streak = 0  # a reply to a request from before the failures does not speak for the server's health now
        if self._on_felt is not None:
            self.felt()
        if self._unheard.waits:
            self._unheard.answered(started)
        if self._strays.asks:
            self._strays.answered(started)
        if self.same:
            self.same = max(0, self.same - _DIFFERENT)
        if self.doubt.rows and self.doubt.answered(started):
            self._allow()
        if debit and answer.prompt_tokens:
            used = answer.prompt_tokens + answer.completion_tokens
            self._estimate.learn(request.tokens, answer.prompt_tokens, answer.completion_tokens)
            self.lease.settle(debit, used, now)
            report.tokens += used - debit

    def _count_model(self, answer: Answer) -> None:
        model = _decode_name(answer.model) or ""
        spent = self.report.models.setdefault(model, Spent())
        spent.add(Spent(1, answer.prompt_tokens, answer.cached_tokens, answer.completion_tokens))

    def wasted(self, answer: Answer) -> None:
        """Count a valid reply, counted as answered, that was no valid answer to a row."""
        self.report.wasted.add(Spent(1, answer.prompt_tokens, answer.cached_tokens, answer.completion_tokens))

    def declined(self, spent: Spent) -> None:
        """Count what a reply cost in which the model declined: it is billed as any other, and is no answer."""
        report = self.report
        report.prompt_tokens += spent.prompt_tokens
        report.completion_tokens += spent.completion_tokens
        report.cached_tokens += spent.cached_tokens
        report.wasted.add(spent)

    def doubtful(self, request: Request) -> None:
        """Count a request that may have been billed and brought no reply, at what others have cost on average."""
        report = self.report
        completion = report.completion_tokens // report.answered if report.answered else 0
        report.doubtful.add(Spent(1, request.tokens, 0, completion))

    def failed(self, failure: Failure, started: float, now: float) -> bool:
        """Count a failed request; True where it is the one that makes this worker stop by itself.

        Where nothing was ever answered and the way to the server fails, that takes one failure, or three.
        """
        report, fault = self.report, failure.fault
        report.lost += fault.lowers_concurrency
        if fault is faults.RATE_LIMITED or fault is faults.SLOW_DOWN:
            report.limited += 1
            self._unheard.refused(started)
        report.unhealthy += fault.unhealthy
        if not fault.unhealthy:
            self._streak = 0
            return False
        self._trouble = failure
        if self.failing:
            # The probe has failed. The next one goes out when the supervisor says so, not as fast as failures come.
            self.lease.allowed = 0
            self._allow()
            return False
        if not self._streak:
            self._streak_from = now
        self._streak += 1
        if self._streak < self._trips_at(failure) or self.tripped:
            return False
        self.tripped = True
        self._allow()
        return True

    def _trips_at(self, failure: Failure) -> int:
        match self.dead_end(failure):
            case "":
                return _TRIP
            case "nothing":
                return 1
            case "another":
                return 1 if failure.part == "tls" else _TRIP_UNPROVEN

    def dead_end(self, failure: Failure) -> DeadEnd:
        """Say whether a failure speaks of the way to a server that has never answered, as far as is known here."""
        return "" if self.proven or not self._url else faults.dead_end(failure)

    def is_not_there(self, failure: Failure) -> bool:
        """Whether a failure says nothing of its row: it speaks of a server that has never answered in this run."""
        if self.dead_end(failure):
            return True
        return bool(self._url) and not self._known and not self.proven and faults.nobody_behind(failure)

    def silence(self, seconds: float, timeout_s: float) -> str:
        """Return what to say where requests were taken and nothing came back for so long; "" where something did."""
        waits = self.in_flight > 0 and self.report.requests == self.in_flight
        if not waits or not self._url or self._known or self.proven:
            return ""
        return f"provider {self.name}: {dead_ends.silent(self._url, seconds, timeout_s)}"

    def reason(self, failure: Failure) -> str:
        """Return a failure for people: where nothing was ever answered, with what is to be changed."""
        told = not self.proven and (self.is_not_there(failure) or failure.fault.scope == "either")
        return dead_ends.told(failure, self._url) if told and self._url else failure.reason

    def same_error(self, error: object) -> int:
        """Count a permanent failure of a row; returns how many in a row, nearly, were the same."""
        self.same = self.same + 1 if error == self._error else 1
        self._error = error
        return self.same

    def refused(self, failure: Failure) -> None:
        """Take note of what a row has failed for, for good."""
        if not self.proven:
            kind = failure.fault, failure.code, failure.status
            seen = self._refusal
            self._refusals += seen is None or kind != (seen.fault, seen.code, seen.status)
            self._refusal = failure

    def wait_s(self, asked_s: float | None, started: float, now: float) -> float | None:
        """Return how long to send nothing after a 429 that asks for so long; None where it is for the row to wait."""
        if self._refused_since is None:
            self._refused_since = now
        silent = self._silent or not self.proven
        if self._strays.refused(asked_s, started, self.report.answered, now) and not silent:
            return None
        return wait_s(asked_s, now - self._refused_since, silent=silent)

    def pause(self, seconds: float, now: float, rng: Random) -> None:
        """Send nothing for so long: the server has said so."""
        self.lease.pause(now + seconds * (1.0 + rng.uniform(0.0, _PAUSE_JITTER)))

    def look(self, reply: Reply, now: float) -> None:
        """Read what a reply's headers say of the limits."""
        self.look_at = now + _LOOK_S
        requests, tokens, odd = limit_headers.read(reply.header)
        report = self.report
        report.requests_limit = requests or report.requests_limit
        report.tokens_limit = tokens or report.tokens_limit
        report.odd_headers += odd

    # The report

    def taken(self, *, rows_wait: bool, paced: bool) -> ProviderReport:
        """Return the report as it stands. It is this object's own, and changes with the next request.

        rows_wait: there is a row to be sent. paced: one that was found to have to wait.
        """
        report = self.report
        sent = report.requests - self._sent_before
        self._sent_before = report.requests
        full = self.in_flight >= self.allowed
        report.busy = self.full / sent if sent else float(full)
        self.full = 0
        report.lease = self.lease.serial
        report.in_flight = self.in_flight
        # Nobody asks again before the rate's time has come: where rates are low, that is many reports away.
        report.wants_rate |= paced and self.lease.limited and not full
        # Out of rows, it lets go of its part at once: what it lacked a moment ago says nothing any more.
        report.wants_rate &= rows_wait
        report.idle = not rows_wait
        report.wants_slots = rows_wait and (report.busy > _BUSY or (full and not sent))
        report.trouble = self.reason(self._trouble)[:_REASON_CHARACTERS] if self._trouble is not None else ""
        report.dead_end = self.dead_end(self._trouble) if self._trouble is not None else ""
        report.doubted = len(self.doubt.rows)
        report.refusal = self._refused()
        report.largest = self._largest
        report.early = self._unheard.early
        self._largest = 0
        return report

    def _refused(self) -> str:
        """Return why rows were refused here before there was any answer; "" where that differs."""
        if self.proven:
            return ""
        if self.doubt.rows and self._doubted is not None:
            return self.reason(self._doubted)[:_REASON_CHARACTERS]
        return self._refusal.reason[:_REASON_CHARACTERS] if self._refusal is not None and self._refusals == 1 else ""

    def reported(self) -> None:
        """Forget what stood for the time up to the report that has now been sent."""
        self.report.wants_rate = False
        self._trouble = None
        self.report.requests_limit = self.report.tokens_limit = None
