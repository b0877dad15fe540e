"""What a reply means for its row: recorded, tried again, sent elsewhere, or failed for good. By the fault table alone.

Part of the hot path (see `dispatcher`). Nothing here awaits.
"""

from collections.abc import Callable
from random import Random
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from rowmill.core.amounts import Spent
from rowmill.core.counts import Counters
from rowmill.core.errors import BadReply, Declined, EmptyReply, InvalidOutput, InvalidRow
from rowmill.core.wire import Answer, Failure, Reply
from rowmill.flow.retry import RetryPolicy
from rowmill.ipc.messages import Closed, RateLimited, ToSupervisor, Tripped
from rowmill.tasks import Task
from rowmill.tasks.replies import paid
from rowmill.transport import faults
from rowmill.worker import packs
from rowmill.worker.defects import Defects
from rowmill.worker.failures import failure_of, may_be_one_row, redacted, told
from rowmill.worker.job import Fallback, Job
from rowmill.worker.live.backlog import Backlog
from rowmill.worker.live.gaps import Gaps
from rowmill.worker.live.provider import Provider
from rowmill.worker.live.router import Router
from rowmill.worker.outcome_writer import OutcomeWriter
from rowmill.worker.usage import USUAL_TOKENS, possible, spread

if TYPE_CHECKING:
    from rowmill.worker.live.reservations import Reservations  # only where there is a budget
    from rowmill.worker.live.tally import Tally

_ELSEWHERE_S = (0.1, 0.5)  # a row that another provider can take at once does not wait out the first one's trouble
_DEAD_END_WAIT_S = 0.2  # times the tries of a row so far: the supervisor's probes are what is waited for
_LONGEST_DEAD_END_WAIT_S = 0.8
_OK = 200


class Settler:
    """Settles every request of a worker."""

    def __init__(
        self,
        *,
        task: Task,
        router: Router,
        backlog: Backlog,
        writer: OutcomeWriter,
        retry: RetryPolicy,
        counters: Counters,
        tell: Callable[[ToSupervisor], None],
        on_less: Callable[[], None],
        streak: int,
        asks: int,
        rng: Random,
        defects: Defects,
        gaps: Gaps,
        reservations: "Reservations | None" = None,
    ) -> None:
        """`tell` reaches the supervisor; `on_less` is called when a provider allows less than before.

        `streak`, `asks`: see `Dispatcher`.
        """
        self._task = task
        self._router = router
        self._backlog = backlog
        self._writer = writer
        self._retry = retry
        self._counters = counters
        self._tell = tell
        self._on_less = on_less
        self._streak = streak
        self._asks = asks
        self._rng = rng
        self._defects = defects
        self._gaps = gaps
        self._counted = 0.0  # when the request was sent whose reply was counted last
        self._reservations = reservations
        self.tally: Tally | None = None  # what is counted goes on a board too

    def settle(self, job: Job, provider: Provider, reply: Reply | Failure) -> None:
        """Record the outcome, or put the row back until its next try."""
        now = monotonic()
        if type(reply) is Failure:
            self._fail(job, provider, reply, now)
            return
        assert type(reply) is Reply
        self._counters.replies += 1
        if now >= provider.look_at:
            provider.look(reply, now)
        if reply.status != _OK and (failure := faults.classify(reply)) is not None:
            self._fail(job, provider, failure, now)
            return
        try:
            if job.members is not None:
                self._settle_pack(job, provider, self._task.unpack(reply.body, len(job.members)), now)
                return
            answer = self._task.parse(reply.body)
        except Declined as error:
            provider.declined(_paid(job, provider, reply.body))
            self._counted = job.started
            self._fail(job, provider, failure_of(error, reply.status), now)
        except BadReply as error:
            within = faults.inside(reply)
            if within is None and isinstance(error, EmptyReply):
                provider.declined(_paid(job, provider, reply.body))
                self._counted = job.started
            self._fail(job, provider, within or failure_of(error, reply.status), now)
        except InvalidOutput as invalid:
            invalid.answer = _possible(job, provider, invalid.answer)
            self._counted = job.started
            provider.answered(job.request, job.debit, invalid.answer, job.started, now)  # type: ignore[arg-type]  # built
            if self._reservations is not None:
                self._reservations.answered(job, provider, invalid.answer)
            provider.wasted(invalid.answer)
            self._ask_again(job, provider, invalid, now)
        else:
            if answer.finish_reason in faults.BROKEN_OFF and (failure := faults.inside(reply)) is not None:
                self._fail(job, provider, failure, now)
                return
            if not 0 < answer.prompt_tokens + answer.completion_tokens <= USUAL_TOKENS:
                answer = _possible(job, provider, answer)
            self._counted = job.started
            provider.answered(job.request, job.debit, answer, job.started, now)  # type: ignore[arg-type]  # built
            if self._reservations is not None:
                self._reservations.answered(job, provider, answer)
            self._writer.result(job, answer, now)

    def _settle_pack(self, pack: Job, provider: Provider, results: list[Answer | InvalidOutput], now: float) -> None:
        """Record the rows of a pack that have their answers, and ask the others again in smaller packs."""
        members = pack.members
        assert members is not None
        assert pack.request is not None
        told_ = _together(results)
        together = _possible(pack, provider, told_, len(members))
        if together is not told_:
            results = spread(results, together.prompt_tokens, together.completion_tokens)
        self._counted = pack.started
        provider.answered(pack.request, pack.debit, together, pack.started, now)
        if self._reservations is not None:
            self._reservations.answered(pack, provider, together)
        if len(members) > 1:
            self._counters.packed += len(members)
            self._counters.tokens_saved += (len(members) - 1) * self._task.shared_tokens
        wrong: list[Job] = []
        requests = pack.requests  # they count as the first row's
        for member, result in zip(members, results, strict=True):
            if isinstance(result, InvalidOutput):
                wrong.append(member)
                provider.wasted(result.answer)
                if len(members) == 1:
                    self._ask_again(pack, provider, result, now)
                else:
                    self._writer.reply(member, pack.requests, told(result, provider.secrets))
            else:
                packs.tell(pack, member, requests=requests)
                requests = 0
                self._writer.result(member, result, now)
        if len(members) == 1 and wrong:
            return  # asked again as it is, or failed
        if wrong:
            wrong[0].requests += requests
            self._send_again(packs.repacked(pack, wrong, len(members) // 2))
        else:
            pack.become("done")

    def _ask_again(self, job: Job, provider: Provider, invalid: InvalidOutput, now: float) -> None:
        """Show the model what was wrong with its reply to this row, unless it was asked often enough."""
        row = job if job.members is None else job.members[0]
        invalid = told(invalid, provider.secrets)
        self._writer.reply(row, job.requests, invalid)
        row.asked += 1
        if row.asked >= self._asks:
            self._fail_for_good(job, provider, failure_of(invalid), now)
            return
        assert job.request is not None
        job.request = self._task.again(job.request, invalid)
        self._send_again([job])

    def _generate_again(self, job: Job, provider: Provider, failure: Failure, now: float) -> None:
        """Ask for the same again: what the server itself has generated did not pass its own check."""
        row = job if job.members is None else job.members[0]
        row.asked += 1
        if row.asked >= self._asks or (job.members is not None and len(job.members) > 1):
            self._fail_for_good(job, provider, failure, now)
        else:
            self._send_again([job])

    def _send_again(self, jobs: list[Job]) -> None:
        """Put rows first in line that are asked anew. No retries: the provider is well, so no budget holds them."""
        for job in reversed(jobs):
            self._counters.reasked += 1
            job.put_off = True
            self._backlog.put_back(job)

    def split(self, pack: Job) -> None:
        """Ask the rows of a pack again in two halves: as it is, nobody takes it."""
        assert pack.members is not None
        halves = packs.repacked(pack, pack.members, (len(pack.members) + 1) // 2)
        halves[0].requests = pack.requests
        for half in halves:
            half.attempts = pack.attempts // 2  # a pack that fails for being a pack must not have them all again
        self._send_again(halves)

    def _fail(self, job: Job, provider: Provider, failure: Failure, now: float) -> None:
        if failure.fault in faults.NO_REPLY and self._gaps.since(job.started):
            failure = msgspec.structs.replace(failure, fault=faults.ASLEEP)
        fault = failure.fault
        faults_seen = self._counters.faults
        faults_seen[fault.name] = seen = faults_seen.get(fault.name, 0) + 1
        if self.tally is not None:
            self.tally.failed(fault.name, seen)
        failure = redacted(failure, provider.secrets)
        if provider.failed(failure, job.started, now):
            reason, dead_end = provider.reason(failure), provider.dead_end(failure)
            self._tell(Tripped(provider.number, reason, dead_end, now - job.started))
        if failure.maybe_billed:
            provider.doubtful(job.request)  # type: ignore[arg-type]  # built
        if self._reservations is not None:
            self._reservations.failed(job, failure)
        if fault.unhealthy:
            self._on_less()
        if fault is faults.RATE_LIMITED or fault is faults.SLOW_DOWN:
            if (pause_s := provider.wait_s(failure.retry_after, job.started, now)) is not None:
                provider.pause(pause_s, now, self._rng)
                failure = msgspec.structs.replace(failure, retry_after=pause_s)
            self._tell(RateLimited(provider.number, pause_s, fault is faults.SLOW_DOWN))
        if fault is faults.INVALID_OUTPUT:
            self._generate_again(job, provider, failure, now)
            return
        if fault.scope == "either":
            self._doubt(job, provider, failure, now)
            return
        if fault.scope == "provider":
            self._refused(job, provider, failure)
            return
        if provider.is_not_there(failure):
            # It says nothing of the row, and the provider is told dead or alive within seconds, or a minute.
            job.put_off = True
            self._counters.maybe_billed_twice += failure.maybe_billed
            least = min(_DEAD_END_WAIT_S * job.requests, _LONGEST_DEAD_END_WAIT_S)
            self._backlog.retry(job, now + max(least, failure.retry_after or 0.0), put_off=True)
            return
        if fault.spends_attempt and not provider.failing:
            job.attempts += 1
        age_s = self._gaps.age_s(job.first, now)
        wait = self._retry.wait_s(failure, tries=job.requests, attempts=job.attempts, age_s=age_s)
        if wait is None or job.ends_with(fault):
            self._fail_for_good(job, provider, failure, now)
            return
        self._counters.maybe_billed_twice += failure.maybe_billed
        if failure.maybe_billed and self.tally is not None:
            self.tally.doubtful(self._counters.maybe_billed_twice)
        if job.fallback is None and self._router.has_other(provider):
            wait = min(wait, self._rng.uniform(*_ELSEWHERE_S))
        # Waiting as long as a refusal says is what the server wants; the retry budget is for those that do not say.
        job.put_off = failure.retry_after is not None and not fault.spends_attempt
        self._backlog.retry(job, now + wait, put_off=job.put_off)

    def _doubt(self, job: Job, provider: Provider, failure: Failure, now: float) -> None:
        """Settle a refusal that may be the row's or the provider's, by what became of other rows."""
        single = len(self._router.providers) == 1
        match provider.doubted(job.index, failure, now, whole=faults.is_of_all(failure), single=single):
            case "row" if job.fallback is not None:
                self._give_up(job)
            case "row":
                self._fail_for_good(job, provider, failure, now)
            case "again":
                job.put_off = True  # no retry: it is the provider that is tried
                self._backlog.retry(job, now + provider.doubt.wait_s(job.index), put_off=True)
            case "provider":
                self._refused(job, provider, failure)
        self._on_less()

    def _refused(self, job: Job, provider: Provider, failure: Failure) -> None:
        """Close a provider that refuses everything. The row has no outcome by it, unless it may go nowhere else."""
        self._close(provider, failure)
        if job.fallback is not None:
            self._give_up(job)
        else:
            self._backlog.put_back(job)

    def _close(self, provider: Provider, failure: Failure) -> None:
        """Send nothing more to a provider in this session. Rows that were to go there only have failed for good."""
        if provider.closed:
            return
        provider.close()
        self._on_less()
        for _ in range(len(self._backlog.bound.get(provider.number, ()))):
            self._give_up(self._backlog.unbind(provider.number))
        self._tell(Closed(provider.number, provider.reason(failure)))

    def _fail_for_good(self, job: Job, provider: Provider, failure: Failure, now: float) -> None:
        """Record a row's failure, unless a smaller pack or another model may do better."""
        if job.members is not None and len(job.members) > 1 and may_be_one_row(failure):
            self.split(job)
            return
        if failure.fault.name in provider.fallback_on:
            options = tuple(provider.fallback) if job.fallback is None else job.fallback.options
            target = next((number for number in options if not self._router.providers[number].closed), None)
            if target is not None:
                job.fallback = Fallback(failure, options[options.index(target) + 1 :])
                job.provider = self._router.providers[target]
                self._backlog.bind(job)
                return
        self._writer.failure(job, failure, now)
        provider.refused(failure)
        if not faults.may_be_of_all(failure):
            return
        rows = provider.same_error((failure.fault.name, failure.code, failure.status))
        if rows >= self._streak:
            message = f"the same error on {rows} rows, one after the other: {failure.message}"
            self._close(provider, msgspec.structs.replace(failure, message=message))

    def defect(self, job: Job, provider: Provider, error: Exception, *, sent: bool = True) -> None:
        """Fail a row whose reply could not be settled, or that was not sent; raises what is of the run, not of a row.

        Whatever was done before it was raised stays: a row that is recorded, or waits for another try, goes its way.
        """
        failure = self._defects.failure(error, job.index, sent=sent)
        if job.state != "in flight":
            return
        now = monotonic()
        if job.members is not None:
            job.members = [member for member in job.members if member.state != "done"]
            if not job.members:
                job.become("done")
                return
        self._count(failure)
        if sent and self._counted != job.started:
            provider.doubtful(job.request)  # type: ignore[arg-type]  # it was sent
        if self._reservations is not None and self._reservations.settled is not job:
            self._reservations.failed(job, failure)
        job.attempts += 1
        self._fail_for_good(job, provider, failure, now)
        self._same_defect(provider, failure)

    def unbuilt(self, job: Job, error: Exception) -> None:
        """Fail a row of which no request could be made; raises what is of the run, not of a row."""
        if isinstance(error, InvalidRow):
            self._writer.failure(job, failure_of(error), monotonic())
            return
        failure = self._defects.failure(error, job.index)
        self._count(failure)
        if job.state != "done":
            self._writer.failure(job, failure, monotonic())
        for provider in self._router.providers:
            self._same_defect(provider, failure)

    def _count(self, failure: Failure) -> None:
        seen = self._counters.faults
        seen[failure.fault.name] = seen.get(failure.fault.name, 0) + 1

    def _same_defect(self, provider: Provider, failure: Failure) -> None:
        """Close a provider where row after row meets the same defect: so would all others."""
        rows = provider.same_error((failure.fault.name, failure.code, None))
        if rows >= self._streak:
            message = f"the same error on {rows} rows, one after the other: {failure.message}"
            self._close(provider, msgspec.structs.replace(failure, message=message))

    def _give_up(self, job: Job) -> None:
        """Record the failure that a row had where it went first: there is nobody left to ask instead."""
        assert job.fallback is not None
        self._writer.failure(job, job.fallback.failure, monotonic())


def _possible(job: Job, provider: Provider, answer: Answer, rows: int = 1) -> Answer:
    """Return the answer to so many rows with usage that its request can have (see `usage`)."""
    assert job.request is not None
    report = provider.report
    cap = provider.most_output * rows
    usual = report.completion_tokens // report.answered if report.answered else cap
    found = possible(answer, size=len(job.request.body), cap=cap, estimate=(job.request.tokens, usual))
    report.odd_usage += found is not answer
    return found


def _paid(job: Job, provider: Provider, body: bytes) -> Spent:
    """Return what a reply cost that is no answer."""
    said = paid(body)
    answer = Answer(b"null", b"null", b"null", b"null", said.prompt_tokens, said.completion_tokens, said.cached_tokens)
    found = _possible(job, provider, answer, 1 if job.members is None else len(job.members))
    return Spent(1, found.prompt_tokens, found.cached_tokens, found.completion_tokens)


def _together(results: list[Answer | InvalidOutput]) -> Answer:
    """Return an answer with the tokens of all."""
    answers = [each.answer if isinstance(each, InvalidOutput) else each for each in results]
    prompt = sum(answer.prompt_tokens for answer in answers)
    completion = sum(answer.completion_tokens for answer in answers)
    cached = sum(answer.cached_tokens for answer in answers)
    return Answer(b"null", b"null", answers[0].model, b"null", prompt, completion, cached)
