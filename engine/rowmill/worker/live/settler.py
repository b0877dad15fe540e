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
from rowmill.core.errors import BadReply, Declined, InvalidOutput
from rowmill.core.request_form import RequestForm
from rowmill.core.wire import Answer, Failure, Reply
from rowmill.flow.retry import RetryPolicy
from rowmill.ipc.messages import Formed, RateLimited, ToSupervisor, Tripped
from rowmill.tasks import Task
from rowmill.tasks.replies import paid
from rowmill.transport import faults
from rowmill.worker import packs
from rowmill.worker.echoes import cleared
from rowmill.worker.failures import failure_in, failure_of, redacted, told
from rowmill.worker.job import Job
from rowmill.worker.live.backlog import Backlog
from rowmill.worker.live.endings import Endings
from rowmill.worker.live.gaps import Gaps
from rowmill.worker.live.provider import Provider
from rowmill.worker.live.router import Router
from rowmill.worker.outcome_writer import OutcomeWriter
from rowmill.worker.usage import USUAL_TOKENS, possible, spread

if TYPE_CHECKING:
    from rowmill.worker.live.finishes import Finishes  # only where the configuration names reasons
    from rowmill.worker.live.reservations import Reservations  # only where there is a budget
    from rowmill.worker.live.tally import Tally

_ELSEWHERE_S = (0.1, 0.5)  # a row that another provider can take at once does not wait out the first one's trouble
_DEAD_END_WAIT_S = 0.2  # times the tries of a row so far: the supervisor's probes are what is waited for
_LONGEST_DEAD_END_WAIT_S = 0.8
_TRIES_ALONE = 4
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
        endings: Endings,
        asks: int,
        rng: Random,
        gaps: Gaps,
        try_out: Callable[[Provider], None],
        finishes: "Finishes | None" = None,
        reservations: "Reservations | None" = None,
    ) -> None:
        """`tell` reaches the supervisor; `on_less` is called when a provider allows less than before.

        `endings` are the bad ones; `asks`: see `Dispatcher`. `try_out` is called when a provider is asked in a form
        that is new.
        """
        self._task = task
        self._router = router
        self._backlog = backlog
        self._writer = writer
        self._retry = retry
        self._counters = counters
        self._tell = tell
        self._on_less = on_less
        self._endings = endings
        self._asks = asks
        self._rng = rng
        self._gaps = gaps
        self._try_out = try_out
        self._finishes = finishes
        self._reservations = reservations
        self.replies = 0  # of any status
        self.tally: Tally | None = None  # what is counted goes on a board too

    def settle(self, job: Job, provider: Provider, reply: Reply | Failure) -> None:
        """Record the outcome, or put the row back until its next try.

        The edge around a row: what no code foresaw fails this row, and only what is of the run is raised.
        """
        counted = False  # what the reply has cost
        try:
            now = monotonic()
            if type(reply) is not Reply:
                assert type(reply) is Failure
                self._fail(job, provider, reply, now)
                return
            self.replies += 1
            if now >= provider.look_at:
                provider.look(reply, now)
            if reply.status != _OK and (failure := faults.classify(reply)) is not None:
                self._fail(job, provider, failure, now)
                return
            results, wrong, parse = None, None, self._task.parse
            try:
                if job.members is None:
                    answer = parse(reply.body)
                    if answer.finish_reason in faults.BROKEN_OFF and (failure := faults.inside(reply)) is not None:
                        self._fail(job, provider, failure, now)
                        return
                else:
                    results = self._task.unpack(reply.body, len(job.members))
                    answer = _together(results)
            except InvalidOutput as invalid:
                wrong, answer = invalid, invalid.answer
            except (Declined, BadReply) as error:
                failure = failure_in(error, reply)
                if isinstance(error, Declined) or failure.fault is faults.EMPTY_REPLY:
                    provider.declined(_paid(job, provider, reply.body))
                    counted = True
                self._fail(job, provider, failure, now)
                return
            if answer.model not in provider.plain or answer.finish_reason not in provider.plain:
                answer, results = _cleared(provider, answer, results)
                if self._finishes is not None and results is None:
                    wrong = self._finishes.found(provider, answer, wrong)
            if not 0 < answer.prompt_tokens + answer.completion_tokens <= USUAL_TOKENS:
                answer, results = _possible(job, provider, answer, results)
            counted = True
            provider.answered(job, answer, now)
            if job.requests > 1:
                self._router.ended(job.index, answered=True)
            if self._reservations is not None:
                self._reservations.answered(job, provider, answer)
            if wrong is not None:
                self._settle_wrong(job, provider, wrong, answer, now)
            elif results is not None:
                self._settle_pack(job, provider, results, now)
            else:
                self._writer.result(job, answer, now)
        except Exception as error:  # noqa: BLE001 - the one edge: see above
            self._endings.defect(job, provider, error, counted=counted)

    def _settle_wrong(self, job: Job, provider: Provider, wrong: InvalidOutput, answer: Answer, now: float) -> None:
        """Settle a reply that does not fit the schema, or that ends as it should not."""
        wrong.answer = answer
        left = wrong if self._finishes is None else self._finishes.settle(job, provider, wrong, now)
        if left is not None:
            provider.wasted(left.answer)
            if left.prose and job.request is not None and (found := provider.form_after_prose(job.request)) is not None:
                self._try_form(provider, *found, failure_of(told(left, provider.secrets)).reason, now)
            self._ask_again(job, provider, left, now)

    def _settle_pack(self, pack: Job, provider: Provider, results: list[Answer | InvalidOutput], now: float) -> None:
        """Record the rows of a pack that have their answers, and ask the others again in smaller packs."""
        members = pack.members
        assert members is not None
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
            self._endings.send_again(packs.repacked(pack, wrong, len(members) // 2))
        else:
            pack.become("done")

    def _ask_again(self, job: Job, provider: Provider, invalid: InvalidOutput, now: float) -> None:
        """Show the model what was wrong with its reply to this row, unless it was asked often enough."""
        row = job if job.members is None else job.members[0]
        invalid = told(invalid, provider.secrets)
        self._writer.reply(row, job.requests, invalid)
        row.asked += 1
        if row.asked >= self._asks:
            self._endings.fail(job, provider, failure_of(invalid), now)
            return
        assert job.request is not None
        job.request = self._task.again(job.request, invalid)
        self._endings.send_again([job])

    def _generate_again(self, job: Job, provider: Provider, failure: Failure, now: float) -> None:
        """Ask for the same again: what the server itself has generated did not pass its own check."""
        row = job if job.members is None else job.members[0]
        row.asked += 1
        if row.asked >= self._asks or (job.members is not None and len(job.members) > 1):
            self._endings.fail(job, provider, failure, now)
        else:
            self._endings.send_again([job])

    def _fail(self, job: Job, provider: Provider, failure: Failure, now: float) -> None:
        if failure.fault in faults.NO_REPLY and self._gaps.since(job.started):
            failure = msgspec.structs.replace(failure, fault=faults.ASLEEP)
        fault = failure.fault
        faults_seen = self._counters.faults
        faults_seen[fault.name] = seen = faults_seen.get(fault.name, 0) + 1
        if self.tally is not None:
            self.tally.failed(fault.name, seen)
        failure = redacted(failure, provider.secrets)
        if failure.status is not None and self._asked_otherwise(job, provider, failure, now):
            return
        if job.second is not None and self._finishes is not None and self._finishes.refused(job, provider, failure):
            if self._reservations is not None:
                self._reservations.failed(job, failure)
            self._endings.send_again([job])
            return
        alone, spent = False, 0
        if fault.unhealthy or fault in faults.NO_ROOM:
            in_flight = sum(each.in_flight for each in self._router.providers)
            left = self._backlog.untried + self._backlog.waiting + in_flight
            alone, spent = provider.kept_out(job.index, failure, now, left=left)
        elif failure.status is not None:
            provider.standing.let_through(job.index)
        if not alone and provider.failed(failure, job.started, now):
            reason, dead_end = provider.standing.reason(failure), provider.standing.dead_end(failure)
            self._tell(Tripped(provider.number, reason, dead_end, now - job.started))
        if failure.maybe_billed:
            provider.doubtful(job.request)  # type: ignore[arg-type]  # built
        if self._reservations is not None:
            self._reservations.failed(job, failure)
        if fault.unhealthy:
            self._on_less()
        if not alone and (fault is faults.RATE_LIMITED or fault is faults.SLOW_DOWN):
            if (pause_s := provider.wait_s(failure.retry_after, job.started, now)) is not None:
                provider.pause(pause_s, now, self._rng)
                failure = msgspec.structs.replace(failure, retry_after=pause_s)
            self._tell(RateLimited(provider.number, pause_s, fault is faults.SLOW_DOWN))
        if fault is faults.INVALID_OUTPUT:
            self._generate_again(job, provider, failure, now)
            return
        if fault.scope == "either":
            self._endings.doubt(job, provider, failure, now)
            return
        if fault.scope == "provider":
            self._endings.refused(job, provider, failure)
            return
        if provider.standing.is_not_there(failure):
            # It says nothing of the row, and the provider is told dead or alive within seconds, or a minute.
            job.put_off = True
            self._counters.maybe_billed_twice += failure.maybe_billed
            least = min(_DEAD_END_WAIT_S * job.requests, _LONGEST_DEAD_END_WAIT_S)
            self._backlog.retry(job, now + max(least, failure.retry_after or 0.0), put_off=True)
            return
        self._try_again(job, provider, failure, now, alone=alone, spent=spent)

    def _asked_otherwise(self, job: Job, provider: Provider, failure: Failure, now: float) -> bool:
        """Put a row in line again that was refused for the form of its request, if there is another; tell of news.

        Behind the next one: what is in this row may be what is refused, and would be in every form.
        """
        assert job.request is not None
        if (found := provider.form_after(job.request, failure, job.started)) is None:
            return False
        form, model = found
        if self._reservations is not None:
            self._reservations.failed(job, msgspec.structs.replace(failure, maybe_billed=False))
        self._try_form(provider, form, model, failure.reason, now)
        job.put_off = True  # no retry: it is the provider that is tried
        self._backlog.put_behind(job)
        return True

    def _try_form(self, provider: Provider, form: RequestForm, model: str | None, reason: str, now: float) -> None:
        """Ask a provider in another form from now on, and tell of it where that is news."""
        if provider.take_form(form, now, model):
            self._try_out(provider)
            self._tell(Formed(provider.number, form, reason, model))

    def _try_again(
        self, job: Job, provider: Provider, failure: Failure, now: float, *, alone: bool, spent: int
    ) -> None:
        """Put a row back until its next try, unless it has had them all. `alone`, `spent`: see `Provider.kept_out`."""
        fault = failure.fault
        if not fault.spends_attempt:
            job.attempts += spent
        elif spent or not provider.failing:
            job.attempts += 1
        age_s = self._gaps.age_s(job.first, now)
        tries = job.requests
        if fault.spends_attempt:
            tries = job.attempts if provider.standing.last else tries  # not as a probe
        elif provider.standing.never_answered:
            tries = min(tries, _TRIES_ALONE)  # they are free: it is the provider that comes to an end (`patience`)
        elif alone and failure.retry_after is None:
            tries = min(tries, _TRIES_ALONE)  # it holds up the end, and nothing is spared by longer waits
        wait = self._retry.wait_s(failure, tries=tries, attempts=job.attempts, age_s=age_s, own=spent > 0)
        if wait is None or job.ends_with(fault):
            provider.standing.ended(job.index, answered=False)
            self._endings.fail(job, provider, failure, now)
            return
        self._counters.maybe_billed_twice += failure.maybe_billed
        if failure.maybe_billed and self.tally is not None:
            self.tally.doubtful(self._counters.maybe_billed_twice)
        if job.fallback is None and self._router.has_other(provider):
            wait = min(wait, self._rng.uniform(*_ELSEWHERE_S))
        # Waiting as long as a refusal says is what the server wants; the retry budget is for those that do not say.
        job.put_off = failure.retry_after is not None and not fault.spends_attempt
        self._backlog.retry(job, now + wait, put_off=job.put_off)


def _possible(
    job: Job, provider: Provider, answer: Answer, results: list[Answer | InvalidOutput] | None
) -> tuple[Answer, list[Answer | InvalidOutput] | None]:
    """Return the answer, and those of a pack's rows, with usage that the request can have (see `usage`)."""
    found = _believed(job, provider, answer)
    if results is not None and found is not answer:
        results = spread(results, found.prompt_tokens, found.completion_tokens)
    return found, results


def _cleared(
    provider: Provider, answer: Answer, results: list[Answer | InvalidOutput] | None
) -> tuple[Answer, list[Answer | InvalidOutput] | None]:
    """Return the answer, and those of a pack's rows, without secrets beside their content (see `echoes`)."""
    secrets, plain = provider.secrets, provider.plain
    if results is not None:
        results = [each if isinstance(each, InvalidOutput) else cleared(each, secrets, plain) for each in results]
    return cleared(answer, secrets, plain), results


def _believed(job: Job, provider: Provider, answer: Answer) -> Answer:
    assert job.request is not None
    cap = provider.most_output * (1 if job.members is None else len(job.members))
    estimate = job.request.tokens, provider.usual_completion(cap)
    found = possible(answer, size=len(job.request.body), cap=cap, estimate=estimate)
    provider.sums.odd_usage += found is not answer
    return found


def _paid(job: Job, provider: Provider, body: bytes) -> Spent:
    """Return what a reply cost that is no answer."""
    said = paid(body)
    answer = Answer(b"null", b"null", b"null", b"null", said.prompt_tokens, said.completion_tokens, said.cached_tokens)
    found = _believed(job, provider, answer)
    return Spent(1, found.prompt_tokens, found.cached_tokens, found.completion_tokens)


def _together(results: list[Answer | InvalidOutput]) -> Answer:
    """Return an answer with the tokens of all."""
    answers = [each.answer if isinstance(each, InvalidOutput) else each for each in results]
    prompt = sum(answer.prompt_tokens for answer in answers)
    completion = sum(answer.completion_tokens for answer in answers)
    cached = sum(answer.cached_tokens for answer in answers)
    return Answer(b"null", b"null", answers[0].model, b"null", prompt, completion, cached)
