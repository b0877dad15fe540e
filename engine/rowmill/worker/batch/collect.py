"""From a batch's results to the checkpoints: every row of a part's try ends, or is left to the next one.

What a result means is decided as for a live reply (see `worker.failures`), but for three things that are other here:

- A row is not tried again at once, but in the part's next try, together with others that were left. So what counts
  against it are the part's tries that had room for it, less those in which it was replied to.
- There is no other provider to ask instead.
- A pack is not taken apart in memory. Where one of its rows may be at fault for what became of all, a reply without
  content is stored for each: that is what makes `parts` ask a row alone.

**Collecting again changes nothing.** A killed collection is done again from its start. Rows that have their outcome are
passed over. A reply that is no valid answer is stored with the number of its try, and not stored a second time. What
the results have cost is counted from the results alone, whatever became of their rows; so a part is told the same cost
however often it is collected.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from time import monotonic

from rowmill.core.amounts import Spent
from rowmill.core.errors import InvalidOutput, InvalidRow
from rowmill.core.wire import Answer, Failure
from rowmill.store.batch_journal import Try
from rowmill.store.recovery import StoredReply
from rowmill.tasks.replies import paid
from rowmill.transport import faults
from rowmill.worker.batch.collected import Collected, Named, RequestRows, Rules, Starts, starts_of
from rowmill.worker.batch.results import Results
from rowmill.worker.batch.shards import ShardAccess
from rowmill.worker.batch.verdicts import NO_RESULT, SERVER_ERROR, Verdict, priced, verdict_on
from rowmill.worker.defects import SameDefect, defect
from rowmill.worker.failures import failure_of, may_be_one_row
from rowmill.worker.finish_rules import Unfinished, ended
from rowmill.worker.job import Job, OpenShard
from rowmill.worker.stored_replies import ended_in, invalid_in, tokens_of
from rowmill.worker.usage import is_possible, spread

_FREE_TRIES = 20  # that spend no attempt of a row: a provider that refuses it more often means the row
_STEP_ROWS = 1024  # that need no more than a look, until the loop may turn to other things


async def collect(
    shards: ShardAccess,
    t: Try,
    results: Results,
    rules: Rules,
    *,
    file: Path,
    earlier: Sequence[int],
    once: frozenset[int] = frozenset(),
) -> Collected:
    """Give every row of a try whose batch is over the outcome that the results have for it.

    `file`: that was sent; it may be gone. `earlier`: of each earlier try that counts, the row up to which it asked;
    ascending. `once`: rows that have failed in one of these in a way for which they are tried again once at most.

    Shards of the range that were never added are taken for sealed ones. Raises what opening and reading shards raises;
    what was recorded until then stays.
    """
    starts, unknown = starts_of(results, t, shards.task.rows_per_request)
    sent: Starts | None = None
    if len(starts) >= t.requests:
        sent = starts  # no result is missing: rows without one were not asked for in this try
    elif t.status == "completed" and await asyncio.to_thread(file.exists):
        async with Results.read([file]) as lines:
            sent, _ = starts_of(lines, t, shards.task.rows_per_request)
    collector = _Collector(shards, t, results, rules, earlier=earlier, once=once, starts=starts, sent=sent)
    collector.pass_over(unknown)
    for shard, first, end in shards.stretches(t.first_row, t.end_row):
        if shard is None:
            await collector.count(first, end)
            continue
        async with shards.open(shard) as opened, aclosing(shards.read(opened, first, end)) as blocks:
            async for row, lines_ in blocks:
                collector.take(opened, row, lines_)
            collector.end_request()
    return collector.found


class _Collector:
    """Settles the rows of one try. Nothing in it awaits, but for `count`."""

    def __init__(
        self,
        shards: ShardAccess,
        t: Try,
        results: Results,
        rules: Rules,
        *,
        earlier: Sequence[int],
        once: frozenset[int],
        starts: Starts,
        sent: Starts | None,
    ) -> None:
        """Take `starts`, the results by their first row, and `sent`, what was asked for; None where it is not known."""
        self.found = Collected()
        self._task = shards.task
        self._packing = shards.task.rows_per_request > 1
        self._writer = shards.writer
        self._results = results
        self._starts = starts
        self._sent = sent
        self._sent_from = self._sent_to = 0  # the rows of the line that was sent last
        self._same = SameDefect()
        self._number = t.number
        self._size = t.size
        self._completed = t.status == "completed"  # then a row without a result has been tried
        self._earlier = earlier
        self._once = once
        self._rules = rules
        self._provider = Named(rules.provider)
        self._request: RequestRows | None = None

    def pass_over(self, names: Sequence[str]) -> None:
        """Count what is for nobody."""
        self.found.unknown += len(names)
        for name in names:
            result = self._results[name]
            if result.ok:
                cost = self._possible(Verdict(None, paid(result.body)), self._task.reply_tokens).spent
                self.found.spent.add(cost)
                self.found.wasted.add(cost)

    async def count(self, first_row: int, end_row: int) -> None:
        """Count what the results for rows have cost that all have their outcome."""
        for row in range(first_row, end_row):
            if row in self._starts:
                self._read(row)
            if row % _STEP_ROWS == 0:
                await asyncio.sleep(0)

    def take(self, opened: OpenShard, first_row: int, lines: Sequence[bytes]) -> None:
        """Settle rows that were read."""
        is_done, replies = opened.checkpoint.is_done, opened.checkpoint.replies
        for row, line in enumerate(lines, first_row):
            if self._request is not None and row not in self._request:
                self.end_request()
            if row in self._starts:
                request = self._read(row)
                self._request = self._request or request
            if is_done(row):
                continue
            job = self._job(opened, row, line, replies.get(row, ()))
            if job is None:
                continue
            if self._request is not None:
                self._request.jobs[row] = job
            else:
                self._missing(job)

    def end_request(self) -> None:
        """Settle the rows that were read of a request."""
        request, self._request = self._request, None
        if request is None or not request.jobs:
            return
        found = request.verdict.found
        if found is None:
            self.found.expired += len(request.jobs)
            self.found.left += len(request.jobs)
        elif isinstance(found, Failure):
            self._failed(request, found)
        else:
            self._answered(request, found)

    # Results

    def _read(self, row: int) -> RequestRows:
        rows, name = self._starts[row]
        verdict = verdict_on(self._results[name], self._task, rows, self._rules.secrets, self._rules.former)
        verdict = self._possible(verdict, self._task.reply_tokens * rows)
        self.found.spent.add(verdict.spent)
        self.found.wasted.add(verdict.spent if self._fails_for_its_end(verdict) else verdict.wasted)
        return RequestRows(row, rows, verdict)

    def _fails_for_its_end(self, verdict: Verdict) -> bool:
        """Whether a reply is no answer for how it ends, whoever has recorded that."""
        rules, found = self._rules.finish, verdict.found
        if rules is None or found is None or isinstance(found, Failure):
            return False
        return any(isinstance(each, Answer) and rules.fails(each) for each in found)

    def _possible(self, verdict: Verdict, cap: int) -> Verdict:
        """Return the verdict with usage that its request can have, by what is known whenever it is collected again."""
        said = verdict.spent
        if is_possible(said.prompt_tokens, said.completion_tokens, size=self._size, cap=cap):
            return verdict
        self.found.odd_usage += 1
        before = self.found.spent
        requests = max(before.requests, 1)
        prompt = before.prompt_tokens // requests
        completion = before.completion_tokens // requests if before.requests else cap
        if verdict.found is None or isinstance(verdict.found, Failure):
            usual = Spent(said.requests, prompt, 0, completion)
            return Verdict(verdict.found, usual, usual)
        return priced(spread(verdict.found, prompt, completion))

    # Rows

    def _job(self, opened: OpenShard, row: int, line: bytes, stored: Sequence[StoredReply]) -> Job | None:
        """Return the row as it was asked for; None where it cannot become a request, and so has failed."""
        if self._task.documents is not None:
            line = self._task.documents.unread(line)  # it was sent with them; they may be gone by now
        job = Job(row, line, len(line), opened, started=monotonic())
        try:
            job.request = self._task.build(line)
        except InvalidRow as error:
            self._fail(job, failure_of(error))
            return None
        except Exception as error:  # noqa: BLE001 - it is this row's
            self._fail(job, defect(error))
            return None
        job.provider = self._provider
        job.requests = self._number
        job.attempts = max(self._tries(row) - len(stored), 0)
        job.asked = self._asks(len(invalid_in(stored)))
        if self._rules.finish is not None and (found := ended_in(stored)) is not None:
            job.second = self._rules.finish.taken_up(job, *found)
        job.once = row in self._once
        if stored:
            job.spent = tokens_of(stored)
        return job

    def _tries(self, row: int) -> int:
        """Return how many earlier tries that count have asked for a row that is still without an outcome."""
        return len(self._earlier) - bisect_right(self._earlier, row)

    def _asks(self, replies: int) -> int:
        """Return how often a row was asked alone that has so many wrong replies."""
        # Where rows are packed, the first reply was the pack's.
        return max(replies - 1, 0) if self._packing else replies

    def _answered(self, request: RequestRows, answers: Sequence[Answer | InvalidOutput]) -> None:
        if request.rows > 1:
            self.found.packed += request.rows
            self.found.tokens_saved += (request.rows - 1) * self._task.shared_tokens
        # A pack's request counts as one of its first row that has an answer.
        valid = (place for place, answer in enumerate(answers) if not isinstance(answer, InvalidOutput))
        first = request.first_row + next(valid, 0)
        for row, answer in enumerate(answers, request.first_row):
            job = request.jobs.get(row)
            if job is None:
                continue
            if not isinstance(answer, InvalidOutput) and row != first:
                job.requests = 0
            try:
                if self._ended_too_soon(job, answer):
                    continue
                if isinstance(answer, InvalidOutput):
                    self._ask_again(job, answer, alone=request.rows == 1)
                else:
                    self._writer.result(job, answer, monotonic())
                    self.found.answered += 1
                self._same.fine()
            except Exception as error:  # noqa: BLE001 - it is this row's
                self._fail(job, defect(error))

    def _ended_too_soon(self, job: Job, found: Answer | InvalidOutput) -> bool:
        """Leave a row to the next try, or fail it, where its reply ends with an unwanted reason; else False."""
        rules = self._rules.finish
        valid = not isinstance(found, InvalidOutput)
        answer = found.answer if isinstance(found, InvalidOutput) else found
        if rules is None or not (reason := rules.of(answer)):
            return False
        stored = job.shard.checkpoint.replies.get(job.index, [])
        if stored and self._is_stored(answer, stored) and stored[-1].ended is not None:
            job.second = None  # a collection of this try that was killed has stored it
        if (second := rules.second_ask(job, answer, reason, valid=valid)) is not None:
            if not self._is_stored(answer, stored):
                self._writer.reply(job, self._number, Unfinished(answer, reason), ended(answer, valid=valid))
            job.second = second
            if valid and not rules.fails(answer):  # else it is counted already, as what is not valid is
                self.found.wasted.add(Spent(1, answer.prompt_tokens, answer.cached_tokens, answer.completion_tokens))
            self.found.reasked += 1
            self.found.left += 1
            return True
        failure = rules.failure(job, answer, reason) if valid else None
        if failure is not None:
            self._fail(job, failure)
        return failure is not None

    def _is_stored(self, answer: Answer, stored: Sequence[StoredReply]) -> bool:
        """Whether a collection of this try that was killed has stored a reply."""
        return any(each.requests == self._number and bytes(each.output) == answer.output for each in stored[-1:])

    def _ask_again(self, job: Job, invalid: InvalidOutput, *, alone: bool) -> None:
        """Store a reply that is no valid answer, unless the row was asked often enough."""
        stored = job.shard.checkpoint.replies.get(job.index, [])
        replies = len(invalid_in(stored))
        if not self._is_stored(invalid.answer, stored):
            self._writer.reply(job, self._number, invalid)
            replies += 1
        job.asked = self._asks(replies)
        if alone and job.asked >= self._rules.asks:
            self._fail(job, failure_of(invalid))
            return
        self.found.reasked += 1
        self.found.left += 1

    def _failed(self, request: RequestRows, failure: Failure) -> None:
        """Fail the rows of a request, or leave them to the next try."""
        fault = failure.fault
        self.found.faults[fault.name] = self.found.faults.get(fault.name, 0) + 1
        if fault.scope == "provider" or faults.is_of_all(failure):
            # The rows stay without an outcome: it is not their failure.
            self.found.closed = self.found.closed or failure
            self.found.left += len(request.jobs)
            return
        if request.rows > 1 and may_be_one_row(failure):
            nothing = Answer(b'""', b"null", b"null", b"null", 0, 0)
            for job in request.jobs.values():
                self._ask_again(job, InvalidOutput(failure.message, nothing), alone=False)
            return
        for row, job in request.jobs.items():
            if row != request.first_row:
                job.requests = 0
            self._retry(job, failure)

    def _retry(self, job: Job, failure: Failure) -> None:
        fault = failure.fault
        job.attempts += fault.spends_attempt
        most = self._rules.attempts
        out = (fault.spends_attempt and job.attempts >= most) or self._tries(job.index) + 1 >= most + _FREE_TRIES
        if job.ends_with(fault) or out or not fault.retryable:
            self._fail(job, failure)
            return
        if fault.once:
            self.found.once.append(job.index)
        self.found.left += 1
        self.found.tried += fault.spends_attempt

    def _missing(self, job: Job) -> None:
        """Settle a row that has no result."""
        if not (self._completed and self._was_sent(job.index)):
            self.found.left += 1
            return
        self.found.missing += 1
        if job.index != self._sent_from:
            job.requests = 0
        self._retry(job, Failure(fault=SERVER_ERROR, message=NO_RESULT))

    def _was_sent(self, row: int) -> bool:
        """Whether the row was asked for in this try at all. To be asked in the order of rows."""
        if self._sent is None:
            self._sent_from = row
            return True
        if row in self._sent:
            self._sent_from, self._sent_to = row, row + self._sent[row][0]
        return row < self._sent_to

    def _fail(self, job: Job, failure: Failure) -> None:
        end = None if self._rules.finish is None else self._rules.finish.first_end(job)
        if isinstance(end, Answer):
            self._writer.result(job, end, monotonic())
            self.found.answered += 1
            return
        failure = end or failure
        self._writer.failure(job, failure, monotonic())
        self.found.failed += 1
        self._same.failed(failure)
