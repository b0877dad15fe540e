"""A provider as a worker sees it: with its wire, its lease of the provider's budget, and its figures."""

from array import array
from collections.abc import Callable, MutableSequence, Sequence
from random import Random

import msgspec

from rowmill.core import tallies
from rowmill.core.amounts import Spent
from rowmill.core.counts import ProviderReport
from rowmill.core.leases import Lease
from rowmill.core.request_form import USUAL, FormPart, RequestForm
from rowmill.core.tallies import CACHED_TOKENS, COMPLETION_TOKENS, PROMPT_TOKENS
from rowmill.core.wire import Answer, Failure, Reply, Request
from rowmill.flow.doubt import Verdict
from rowmill.flow.leases.lease import ClientLease
from rowmill.flow.limits.token_estimate import TokenEstimate
from rowmill.transport import Immediate, Transport, faults, limit_headers
from rowmill.worker.job import Job
from rowmill.worker.live.asked_forms import AskedForms, FormerOf
from rowmill.worker.live.measured import Measured
from rowmill.worker.live.standing import Standing

_FIRST_PROSE = 1  # reply without JSON may be chance; two where there is no other are not
_LOOK_S = 0.1  # limit headers are read this often: they cost more than the rest of a row's bookkeeping
_BUSY = 0.5  # share of sends that took the last slot, from which on slots are what is missing
_PAUSE_JITTER = 0.05  # of a Retry-After, added at random: workers that were paused together come back one by one


def _itself(body: bytes) -> bytes:
    return body


_decode_name = msgspec.json.Decoder(str | None).decode


class Provider:
    """One provider in one worker.

    in_flight, allowed: requests on the wire, and how many may be.
    sent: requests so far.
    sums: the report that goes to the supervisor, but for what every request adds to: `report` has all.
    counts: where those sums go that are written down at once: on the worker's board, if it has one (see `tally`).
    immediate: the transport, where requests can go out as they were built, and without being awaited.
    plain: what replies name, as their model, that holds no secret, see `echoes`.
    measured: where what is measured of single replies goes.
    standing: what its failures and refusals have shown so far.
    most_cap: tokens that it lets a reply have, as its refusals have shown; 0 where they have not.
    """

    __slots__ = (
        "_answered", "_by_model", "_completion_tokens", "_estimate", "_forms", "_largest", "_prompt_tokens", "_reply_s",
        "_sent_before", "allowed", "closed", "counts", "failing", "fallback", "fallback_on", "first_choice", "full",
        "immediate", "in_flight", "lease", "look_at", "measured", "most_cap", "most_output", "name", "number", "plain",
        "rewrite", "secrets", "send", "sent", "standing", "stride", "sums", "transport", "tripped", "turn",
    )  # fmt: skip

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
        model: str | None = None,
        workers: int = 1,
        url: str = "",
        failed_before: bool = False,
        former_of: FormerOf | None = None,
        form: RequestForm = USUAL,
        open_parts: frozenset[FormPart] = frozenset(),
        grows: bool = False,
    ) -> None:
        """`rewrite` makes a built body ask this provider's own model; None where it is the task's.

        by_model: count what each model costs that replies name. model: that of rows which name none; None where all
        name theirs. workers: so many ask this provider. url: where its requests go, as it may be shown; where it is not
        given, what fails is never taken for the way there. failed_before: only rows are asked that have failed before.
        former_of, form, open_parts: see `AskedForms`. grows: bodies may be changed as they go out.
        """
        self.number = number
        self.name = name
        self.transport = transport
        self.secrets = secrets
        self.plain: set[bytes] = set()
        self.fallback = fallback
        self.fallback_on = frozenset(fallback_on)
        self._answered = 0
        self._forms = AskedForms(
            transport,
            ask_model=_itself if grows and rewrite is None else rewrite,
            former_of=former_of,
            form=form,
            open_parts=open_parts,
            by_model=by_model,
        )
        self._use_forms()
        self.first_choice = weight > 0
        self.lease = ClientLease()
        self.in_flight = 0
        self.allowed = 0
        self.sums = ProviderReport()
        self.sent = self._prompt_tokens = self._completion_tokens = 0
        self._reply_s = 0.0
        self.counts: MutableSequence[int] | memoryview[int] = array("q", bytes(8 * len(tallies.OF_PROVIDER)))
        self.measured = Measured()
        self.closed = False
        self.failing = False
        self.tripped = False
        self.standing = Standing(workers=workers, url=url, by_model=by_model, model=model, failed_before=failed_before)
        self.full = 0  # sends that took the last slot, since the last report
        self.look_at = 0.0
        self.turn = 0.0  # virtual time: grows with every send, the slower the more weight
        self.stride = 1.0 / weight if weight > 0 else 1.0
        self._estimate = TokenEstimate()
        self.most_output = most_output
        self.most_cap = 0
        self._by_model = by_model
        self._sent_before = 0
        self._largest = 0

    def __repr__(self) -> str:
        words = [word for word in ("failing", "tripped", "closed") if getattr(self, word)]
        return f"<{self.name}: {', '.join([f'{self.in_flight} of {self.allowed} in flight', *words])}>"

    @property
    def report(self) -> ProviderReport:
        """The report as it stands."""
        report = self.sums
        report.requests = self.sent
        report.answered = self._answered
        report.prompt_tokens = self._prompt_tokens
        report.completion_tokens = self._completion_tokens
        report.reply_s = self._reply_s
        return report

    def apply(self, lease: Lease, now: float) -> tuple[float, float]:
        """Put a lease in force; returns the credit (requests, tokens) that goes back with the one before."""
        returned = self.lease.apply(lease, now)
        self.closed = self.closed or lease.closed
        self.failing = lease.failing
        self.standing.leased(lease)
        # A worker that has stopped by itself goes on once the supervisor has seen it: then a lease says so.
        if self.tripped and (lease.failing or lease.last or lease.in_flight == 0):
            self.tripped = False
            self.standing.starts_anew()
        self._allow()
        return returned

    def _allow(self) -> None:
        self.allowed = 0 if self.closed or self.tripped else self.standing.most(self.lease.allowed)

    def halt(self) -> None:
        """Send nothing more until the next lease."""
        self.lease.allowed = 0
        self._allow()

    def feel(self, most: int, on_felt: Callable[[], None]) -> None:
        """Send so few at a time until the first answer, or until `felt`: what is there may be no such server."""
        self.standing.feel(most, on_felt)
        self._allow()

    def felt(self) -> None:
        """Send as the lease says."""
        on_felt = self.standing.felt()
        if on_felt is not None:
            self._allow()
            on_felt()

    def doubted(
        self, row: int, request: Request, failure: Failure, now: float, *, whole: bool, single: bool
    ) -> Verdict:
        """Say whose a refusal is that may be the row's or the provider's; see `flow.doubt`."""
        verdict = self.standing.doubted(row, request, failure, now, whole=whole, single=single)
        if verdict == "again" and (quiet_until := self.standing.quiet_until):
            self.lease.pause(quiet_until)
        self._allow()
        return verdict

    # How it is asked

    def _use_forms(self) -> None:
        forms, transport = self._forms, self.transport
        self.send, self.rewrite = forms.send, forms.rewrite
        self.immediate = transport if isinstance(transport, Immediate) and forms.rewrite is None else None

    def take_form(self, form: RequestForm, now: float, model: str | None = None) -> bool:
        """Ask as is known by now of it, or of one of its models, too; returns whether that is news."""
        news = self._forms.take(form, now, self._answered, model)
        self._use_forms()
        return news

    def form_after(self, request: Request, failure: Failure, started: float) -> tuple[RequestForm, str | None] | None:
        """Return the form in which to send again what has failed for its own, and its model; see `AskedForms`."""
        model = self._forms.model_of(request)
        form = self._forms.after(failure, started, self._answered, model)
        return None if form is None else (form, model)

    def form_after_prose(self, request: Request) -> tuple[RequestForm, str | None] | None:
        """Return the form in which to ask from now on, and the model; see `AskedForms.after_prose`.

        Only where no reply was any use so far, and this is not the first one.
        """
        if not _FIRST_PROSE < self._answered <= self.sums.wasted.requests:
            return None
        model = self._forms.model_of(request)
        form = self._forms.after_prose(model)
        return None if form is None else (form, model)

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

    def answered(self, job: Job, answer: Answer, now: float) -> None:
        """Count a valid reply, and correct what was debited for it by what it says was used."""
        prompt_tokens, completion_tokens = answer.prompt_tokens, answer.completion_tokens
        self._answered += 1
        seconds = now - job.started
        self._reply_s += seconds
        measured = self.measured
        measured.latencies.append(seconds)
        measured.prompt_tokens.append(prompt_tokens)
        measured.completion_tokens.append(completion_tokens)
        counts = self.counts
        self._prompt_tokens = counts[PROMPT_TOKENS] = self._prompt_tokens + prompt_tokens
        self._completion_tokens = counts[COMPLETION_TOKENS] = self._completion_tokens + completion_tokens
        if answer.cached_tokens:
            self.sums.cached_tokens += answer.cached_tokens
            counts[CACHED_TOKENS] = self.sums.cached_tokens
        if self._by_model:
            self._count_model(answer)
        if self.standing.asks:
            self._hear(job.started, job.index)
        if job.debit and prompt_tokens:
            used = prompt_tokens + completion_tokens
            self._estimate.learn(job.request.tokens, prompt_tokens, completion_tokens)  # type: ignore[union-attr]  # built
            self.lease.settle(job.debit, used, now)
            self.sums.tokens += used - job.debit

    def _hear(self, started: float, row: int) -> None:
        """Take in an answer that tells something, for what was open before it came."""
        if self.standing.answered(started, row):
            self._allow()
        self.felt()

    def _count_model(self, answer: Answer) -> None:
        model = _decode_name(answer.model) or ""
        spent = self.sums.models.setdefault(model, Spent())
        spent.add(Spent(1, answer.prompt_tokens, answer.cached_tokens, answer.completion_tokens))

    def wasted(self, answer: Answer) -> None:
        """Count a valid reply, counted as answered, that was no valid answer to a row."""
        self.sums.wasted.add(Spent(1, answer.prompt_tokens, answer.cached_tokens, answer.completion_tokens))

    def declined(self, spent: Spent) -> None:
        """Count what a reply cost in which the model declined: it is billed as any other, and is no answer."""
        report = self.sums
        self._prompt_tokens += spent.prompt_tokens
        self._completion_tokens += spent.completion_tokens
        report.cached_tokens += spent.cached_tokens
        report.wasted.add(spent)

    def doubtful(self, request: Request) -> None:
        """Count a request that may have been billed and brought no reply, at what others have cost on average."""
        self.sums.doubtful.add(Spent(1, request.tokens, 0, self.usual_completion(0)))

    def usual_completion(self, otherwise: int) -> int:
        """Return the completion tokens of a reply on average; `otherwise` where there was none yet."""
        return self._completion_tokens // self._answered if self._answered else otherwise

    def failed(self, failure: Failure, started: float, now: float) -> bool:
        """Count a failed request; True where it is the one that makes this worker stop by itself.

        Where nothing was ever answered and the way to the server fails, that takes one failure, or three.
        """
        report, fault = self.sums, failure.fault
        report.lost += fault.lowers_concurrency
        if fault is faults.RATE_LIMITED or fault is faults.SLOW_DOWN:
            report.limited += 1
            self.standing.limited(failure, started)
        report.unhealthy += fault.unhealthy
        trips = self.standing.failed(failure, now, counts=not self.failing)
        if fault.unhealthy and self.failing:
            # The probe has failed. The next one goes out when the supervisor says so, not as fast as failures come.
            self.lease.allowed = 0
            self._allow()
            return False
        if not trips or self.tripped:
            return False
        self.tripped = True
        self._allow()
        return True

    def kept_out(self, row: int, failure: Failure, now: float, *, left: int) -> tuple[bool, int]:
        """Count a failure that may be the provider's; returns whether it is the row's, and attempts it has spent."""
        limited = failure.fault is faults.RATE_LIMITED or failure.fault is faults.SLOW_DOWN
        alone, spent = self.standing.kept_out(
            row, now, answers=self._answered, in_flight=self.in_flight, limited=limited, left=left
        )
        alone &= not self.failing  # a probe's result is awaited
        self.sums.limited += alone and limited
        return alone, spent

    def wait_s(self, asked_s: float | None, started: float, now: float) -> float | None:
        """Return how long to send nothing after a 429 that asks for so long; None where it is for the row to wait."""
        return self.standing.wait_s(asked_s, started, self._answered, now, sent=self.sent - self.sums.limited)

    def silence(self, seconds: float, timeout_s: float) -> str:
        """Return what to say where requests were taken and nothing came back for so long; "" where something did."""
        if not 0 < self.in_flight == self.sent:
            return ""
        text = self.standing.silence(seconds, timeout_s)
        return text and f"provider {self.name}: {text}"

    def pause(self, seconds: float, now: float, rng: Random) -> None:
        """Send nothing for so long: the server has said so."""
        self.lease.pause(now + seconds * (1.0 + rng.uniform(0.0, _PAUSE_JITTER)))

    def look(self, reply: Reply, now: float) -> None:
        """Read what a reply's headers say of the limits."""
        self.look_at = now + _LOOK_S
        requests, tokens, odd = limit_headers.read(reply.header)
        report = self.sums
        report.requests_limit = requests or report.requests_limit
        report.tokens_limit = tokens or report.tokens_limit
        report.odd_headers += odd

    # The report

    def taken(self, *, rows_wait: bool, paced: bool, last: bool = False, none: bool = False) -> ProviderReport:
        """Return the report as it stands. It is this object's own, and changes with the next request.

        rows_wait: there is a row to be sent. paced: one that was found to have to wait. last: of all rows, so
        many have failed that there is little to find out by others.
        none: no row at all.
        """
        report = self.report
        sent = self.sent - self._sent_before
        self._sent_before = self.sent
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
        report.last = none or (last and self.standing.fails_rows)
        self.standing.tell(report)
        report.largest = self._largest
        self._largest = 0
        return report

    def reported(self) -> None:
        """Forget what stood for the time up to the report that has now been sent."""
        self.sums.wants_rate = False
        self.standing.reported()
        self.sums.requests_limit = self.sums.tokens_limit = None
