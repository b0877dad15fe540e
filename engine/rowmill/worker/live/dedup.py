"""No request twice: rows that ask the same as another one are answered by its reply.

Of all rows with one key, one **leads**: it is sent. The others **follow**: they wait here, hold no slot, and end as it
ends. Who leads is settled among the workers by the claims of the session; a reply that an earlier run has kept spares
even that.

Where a row stands:

    take ─┬─ kept by an earlier run, or ended in this one ─► recorded at once
          ├─ this worker asks it ────────────► follows here until `answered` or `failed`
          ├─ another worker asks it ─────────► follows; looked up again every tick
          ├─ nobody asks it ─────────────────► leads: goes to the backlog
          └─ another worker has the lock ────► waits a moment for it, then one of these

A row that leads has its `key` set, and only such a row. Each leader ends once: answered, failed, released, or with its
process. Then its claim is void, and the first follower elsewhere that looks leads. So no row waits for one that will
never end; and as leaders wait for nobody, feeding may stop while followers are many (`room`).

State changes in `take`, `poll` and the leaders' ends, none of which awaits; `run` only tells the time.
"""

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic

from rowmill.core.amounts import Spent
from rowmill.core.wire import Answer, Failure
from rowmill.store.cache.claims import Claim, Claims
from rowmill.store.cache.kept_replies import Replies
from rowmill.store.cache.keys import keying
from rowmill.store.cache.shared_results import decode, encode
from rowmill.worker.defects import defect
from rowmill.worker.job import FOLLOWING, READY, Job
from rowmill.worker.live.carried_claims import CarriedClaims
from rowmill.worker.live.keeper import Keeper

_TICK_S = 0.05  # results are published, and claims of others looked up, this often
_MISSED_S = 0.002  # after the lock was missed: about as long as another holds it
_LOOKS = 2_000  # claims of others that are looked up at a time: the lock must not be held long
_ROWS = 10_000  # that wait here, until feeding stops
_BYTES = 32 << 20  # of their lines and requests
_STORE_S = 0.25  # answers are put into the store this often: a larger group writes fewer pages


class Dedup:
    """The rows of one worker that share their requests with others.

    hits: rows answered by replies of earlier runs. duplicates: rows that ended as another row of this run did.
    spared: what the replies to both had cost.
    rows, bytes: of the rows that wait here.
    """

    def __init__(
        self,
        *,
        salt: bytes,
        claims: Claims | CarriedClaims,
        replies: Replies | None,
        record: Callable[[Job, Answer | Failure, float], None],
        send: Callable[[list[Job]], None],
        note: Callable[[str], None],
    ) -> None:
        """Share replies through the claims, and through the persistent store where there is one.

        `record` takes rows that end as another one did, `send` those that have waited and that nobody else asks for;
        `note` is told, once, that the persistent store is used no more.
        """
        self._key = keying(salt)
        self._claims = claims
        self._record = record
        self._send = send
        self.hits = 0
        self.duplicates = 0
        self.spared = Spent()
        self.rows = 0
        self.bytes = 0
        # Key -> rows. A key is in one of them at most.
        self._led: dict[bytes, list[Job] | None] = {}  # asked by this worker: followers, None for none
        self._elsewhere: dict[bytes, list[Job]] = {}  # asked by another
        self._unclaimed: dict[bytes, list[Job]] = {}  # waits for the lock
        self._looked = 0  # of those elsewhere, so many have been looked up in this round
        self._unpublished: list[tuple[bytes, bytes]] = []  # (key, result)
        self._released: list[bytes] = []
        self._keeper = None if replies is None else Keeper(replies, on_room=self._note_room, note=note)
        self._missed = False
        self._work = asyncio.Event()  # something waits for the lock
        self._urgent = asyncio.Event()  # the lock was missed
        self._room = asyncio.Event()
        self._room.set()

    def __repr__(self) -> str:
        return f"<{len(self._led)} led, {len(self._elsewhere)} asked elsewhere, {len(self._unclaimed)} unclaimed>"

    def hurry(self) -> None:
        """Look soon: something has been heard of the claims."""
        self._work.set()
        self._urgent.set()

    # Rows come in

    def take(self, jobs: Sequence[Job], now: float) -> list[Job]:
        """Take rows whose requests are built; returns those that are to be sent now."""
        key_of = self._key
        led, elsewhere, unclaimed = self._led, self._elsewhere, self._unclaimed
        fresh: dict[bytes, list[Job]] = {}
        taken: list[Job] = []
        for job in jobs:
            job.state = FOLLOWING[job.state]
            try:
                key = key_of(job.request.body)  # type: ignore[union-attr]  # built, as the docstring says
            except Exception as error:  # noqa: BLE001 - it is this row's
                self._record(job, defect(error), now)
                continue
            if key in led:
                followers = led[key]
                if followers is None:
                    followers = led[key] = []
            else:
                followers = elsewhere.get(key) or unclaimed.get(key) or fresh.get(key)
                if followers is None:
                    followers = fresh[key] = []
            followers.append(job)
            taken.append(job)
        self._hold(taken)
        if fresh and self._keeper is not None:
            self._take_hits(self._keeper, fresh, now)
        unclaimed.update(fresh)
        return self._exchange(now, look=False) if unclaimed else []

    def poll(self, now: float) -> list[Job]:
        """Publish results, claim what could not be claimed before, look up what others ask.

        Returns rows to be sent now.
        """
        return self._exchange(now, look=True)

    def _take_hits(self, keeper: Keeper, fresh: dict[bytes, list[Job]], now: float) -> None:
        for key, (serial, data) in keeper.get(list(fresh)).items():
            jobs = fresh.pop(key)
            self._pass_on(jobs, decode(data), now)
            if serial <= self._claims.floor:
                self.hits += len(jobs)
                self.duplicates -= len(jobs)

    def _exchange(self, now: float, *, look: bool) -> list[Job]:
        """Take the lock, if nobody has it: tell what has ended here, then claim."""
        claims = self._claims
        self._missed = not claims.try_lock()
        if self._missed:
            self._work.set()
            self._urgent.set()
            self._note_room()
            return []
        try:
            if self._unpublished:
                claims.publish(self._unpublished)
                self._unpublished = []
            if self._released:
                claims.release(self._released)
                self._released = []
            unclaimed, self._unclaimed = self._unclaimed, {}
            settled = list(zip(unclaimed, claims.claim(list(unclaimed)), strict=True))
            if look and self._elsewhere:
                settled += self._looked_up(unclaimed)
        finally:
            claims.unlock()
        leaders: list[Job] = []
        for key, state in settled:
            self._settle(key, unclaimed[key], state, leaders, now)
        if self._elsewhere:
            self._work.set()
        self._let_go(leaders)
        return leaders

    def _looked_up(self, into: dict[bytes, list[Job]]) -> list[tuple[bytes, Claim | Answer | Failure]]:
        """Look at a part of what others ask. What they ask no more is claimed, and put `into`."""
        keys = list(self._elsewhere)
        if self._looked >= len(keys):
            self._looked = 0
        keys = keys[self._looked : self._looked + _LOOKS]
        self._looked += len(keys)
        settled = []
        free = []
        for key, state in zip(keys, self._claims.look(keys), strict=True):
            if state is Claim.TAKEN:
                continue
            into[key] = self._elsewhere.pop(key)
            self._looked -= 1
            if state is Claim.FREE:
                free.append(key)
            else:
                settled.append((key, state))
        return settled + list(zip(free, self._claims.claim(free), strict=True))

    def _settle(
        self, key: bytes, jobs: list[Job], state: Claim | Answer | Failure, leaders: list[Job], now: float
    ) -> None:
        if state is Claim.HELD:
            leader = jobs[0]
            leader.state = READY[leader.state]
            leader.key = key
            leaders.append(leader)
            self._led[key] = jobs[1:] if len(jobs) > 1 else None
        elif isinstance(state, Claim):
            self._elsewhere[key] = jobs
        else:
            self._pass_on(jobs, state, now)

    def _pass_on(self, jobs: list[Job], result: Answer | Failure, now: float) -> None:
        """End rows as the one that they have followed."""
        self.duplicates += len(jobs)
        self._let_go(jobs)
        if type(result) is Answer:
            self.spared.requests += len(jobs)
            self.spared.prompt_tokens += len(jobs) * result.prompt_tokens
            self.spared.completion_tokens += len(jobs) * result.completion_tokens
        for job in jobs:
            self._record(job, result, now)

    # Leaders end

    def answered(self, job: Job, answer: Answer, now: float) -> None:
        """Hear that a row that leads has its answer."""
        data = self._encoded(job, answer)
        if self._keeper is not None:
            self._keeper.keep(job.key, data)
        self._over(job, answer, data, now)

    def failed(self, job: Job, failure: Failure, now: float) -> None:
        """Hear that a row that leads has failed for good."""
        self._over(job, failure, self._encoded(job, failure), now)

    def _encoded(self, job: Job, result: Answer | Failure) -> bytes:
        try:
            return encode(result)
        except Exception:
            self.release(job)  # or those that follow would wait for ever
            raise

    def release(self, job: Job) -> None:
        """Hear that a row that leads will not be sent, and has no outcome: the next one that asks the same leads."""
        key, job.key = job.key, b""
        followers = self._led.pop(key)
        if not followers:
            self._released.append(key)
            self._work.set()
            return
        leader = followers.pop(0)
        leader.become("ready")
        leader.key = key
        self._led[key] = followers or None
        self._let_go([leader])
        self._send([leader])

    def _over(self, job: Job, result: Answer | Failure, data: bytes, now: float) -> None:
        key, job.key = job.key, b""
        followers = self._led.pop(key)
        self._unpublished.append((key, data))
        self._work.set()
        if followers:
            self._pass_on(followers, result, now)

    # What waits is bounded

    async def room(self) -> None:
        """Wait until more rows may be taken."""
        await self._room.wait()

    def _hold(self, jobs: Sequence[Job]) -> None:
        self.rows += len(jobs)
        self.bytes += sum([_size(job) for job in jobs])
        self._note_room()

    def _let_go(self, jobs: Sequence[Job]) -> None:
        self.rows -= len(jobs)
        self.bytes -= sum([_size(job) for job in jobs])
        self._note_room()

    def _note_room(self) -> None:
        if self.rows < _ROWS and self.bytes < _BYTES and (self._keeper is None or self._keeper.keeps_up):
            self._room.set()
        else:
            self._room.clear()

    # Time goes on

    async def run(self) -> None:
        """Poll, and put answers into the store, until cancelled. Raises `MachineError`."""
        parts = [self._poll_often()]
        if self._keeper is not None:
            parts.append(self._store_often(self._keeper))
        await asyncio.gather(*parts)

    async def _poll_often(self) -> None:
        while True:
            await self._work.wait()
            try:
                async with asyncio.timeout(_TICK_S):
                    await self._urgent.wait()
            except TimeoutError:
                pass
            else:
                self._urgent.clear()
                await asyncio.sleep(_MISSED_S)
            self._work.clear()
            if leaders := self.poll(monotonic()):
                self._send(leaders)

    async def _store_often(self, keeper: Keeper) -> None:
        while True:
            await keeper.wanted()
            await asyncio.sleep(_STORE_S)
            await keeper.flush()

    async def flush(self) -> None:
        """Put the answers that wait for it into the persistent store."""
        if self._keeper is not None:
            await self._keeper.flush()

    def _published(self) -> bool:
        """Tell what has ended here, if nobody else has the lock."""
        if not self._claims.try_lock():
            return False
        try:
            self._claims.publish(self._unpublished)
            self._unpublished = []
        finally:
            self._claims.unlock()
        return True

    async def close(self) -> None:
        """Publish and store what is left, and close everything. For the worker's end, when `run` has been cancelled."""
        while self._unpublished and not self._published():  # noqa: ASYNC110 - no event tells that another process is through
            await asyncio.sleep(_MISSED_S)
        if self._keeper is not None:
            await self._keeper.close()
        self._claims.close()


def _size(job: Job) -> int:
    return job.size + len(job.request.body)  # type: ignore[union-attr]  # rows here have their requests built
