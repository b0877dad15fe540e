"""The books of money: nothing counted twice, nothing forgotten over deaths and sessions, credit to who can use it."""

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from math import inf
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rowmill.budget import ledger as files
from rowmill.budget.ledger import Spending
from rowmill.core import config as configuration
from rowmill.core.amounts import Amount, Spent
from rowmill.core.counts import Counters, ProviderReport, Totals
from rowmill.core.errors import BudgetError, MachineError
from rowmill.core.reports import Cost
from rowmill.ipc import messages
from rowmill.ipc.messages import Allow, Heartbeat, Short, ToWorker
from rowmill.ipc.processes import Child, Process
from rowmill.runs.preparation import prepare
from rowmill.store.batch_journal import BatchJournal, Try
from rowmill.supervisor.pool import Member
from rowmill.supervisor.prepared import Prepared
from rowmill.supervisor.spending import SpendingTracker

IN, OUT = 1.0, 4.0


class Home:
    """A run directory, the sessions of its run, and workers that say what the test says."""

    def __init__(self, folder: Path) -> None:
        (folder / "in.jsonl").write_bytes(b'{"text":"a"}\n')
        self._folder = folder
        self._ends: list[Connection] = []
        self._prepared: Prepared | None = None
        self._hired = 0
        self.now = 100.0

    @property
    def journal(self) -> Path:
        """The journal of batches. After a session has begun."""
        assert self._prepared is not None
        return self._prepared.directory.journal

    def session(
        self, *, mode: str = "live", providers: tuple[str, ...] = ("main",), workers: int = 2, **budget: float
    ) -> SpendingTracker:
        """Begin a session; the one before is over, or was killed."""
        self.end()
        tree: dict[str, Any] = {
            "input": {"path": str(self._folder / "in.jsonl"), "format": "jsonl"},
            "task": {"model": "m", "prompt": "{text}"},
            "output": {"path": str(self._folder / "out.jsonl")},
            "provider": [{"name": name, "base_url": "http://127.0.0.1:1/v1"} for name in providers],
            "prices": {"m": {"input": IN, "output": OUT}},
            "budget": budget,
        }
        self._prepared = prepare(configuration.parse(tree, "test"), {})
        return SpendingTracker(self._prepared, mode=mode, workers=workers)

    def hire(self, spending: SpendingTracker) -> Member:
        """Let a worker come up."""
        ours, theirs = multiprocessing.Pipe()
        self._ends += (ours, theirs)
        member = Member(0, self._hired, Child(cast("Process", multiprocessing.current_process()), ours), heard=self.now)
        self._hired += 1
        member.become("working")
        spending.join(member, self.now)
        return member

    def said(self, member: Member) -> list[ToWorker]:
        """Read what a worker was told."""
        theirs = self._ends[self._ends.index(member.child.pipe) + 1]
        told = []
        while theirs.poll():
            message = messages.receive_in_worker(theirs)
            assert message is not None
            told.append(message)
        return told

    @property
    def file(self) -> Spending:
        assert self._prepared is not None
        return files.load(self._prepared.directory.spending)

    def block(self) -> None:
        """Let nothing be written in the place of the file."""
        assert self._prepared is not None
        (self._prepared.directory.spending / "full").mkdir(parents=True)

    def end(self) -> None:
        if self._prepared is not None:
            self._prepared.directory.close()
            self._prepared = None

    def close(self) -> None:
        self.end()
        for pipe in self._ends:
            pipe.close()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.close()


def report(answered: int, *, prompt: int = 100, completion: int = 10, **more: Any) -> ProviderReport:
    """Say that so many requests of a usual size were sent and answered."""
    figures = {"requests": answered, "answered": answered}
    tokens = {"prompt_tokens": answered * prompt, "completion_tokens": answered * completion}
    return ProviderReport(**{**figures, **tokens, **more})


def tell(spending: SpendingTracker, member: Member, *reports: ProviderReport, in_flight: Amount | None = None) -> None:
    """Let a worker beat; what it has spent of its credit is what its replies say, and what is in flight."""
    settled = Amount()
    for each in reports:
        usd = (each.prompt_tokens * IN + each.completion_tokens * OUT) / 1e6
        settled += Amount(each.requests, each.prompt_tokens + each.completion_tokens, usd)
    reserved = in_flight or Amount()
    member.heartbeat = Heartbeat(
        counters=Counters(),
        in_flight=0,
        in_flight_max=0,
        waiting=0,
        next_due_s=None,
        rss_max=0,
        cpu_s=0.0,
        shards={},
        providers=list(reports),
        lag_ms=0.0,
        retries_short=False,
        spent=settled + reserved,
        reserved=reserved,
    )
    spending.heartbeat(member, member.heartbeat)


def cost(spending: SpendingTracker) -> Cost:
    return spending.cost(Totals(), None)


def ask(home: Home, spending: SpendingTracker, member: Member, need: Amount, left: Amount = Amount()) -> Amount:  # noqa: B008 - frozen
    """Ask for credit; returns what came, nothing where none did."""
    spending.short(member, Short(left, need))
    spending.tick(home.now, due=False)
    allowed = [message.amount for message in home.said(member) if isinstance(message, Allow)]
    return sum(allowed, Amount())


ONE = Amount(1.0, 110.0, 140e-6)


def test_the_figures_of_a_worker_that_died_and_of_its_successor_add_up(home: Home) -> None:
    spending = home.session()
    first = home.hire(spending)
    tell(spending, first, report(10))
    spending.leave(first, billed=4)
    second = home.hire(spending)
    assert cost(spending).tokens == 1100, "before the successor has said anything"
    tell(spending, second, report(5))
    tell(spending, second, report(7))
    found = cost(spending)
    assert (found.requests, found.tokens) == (17, 17 * 110)
    assert found.usd == pytest.approx(17 * 140e-6)
    assert found.lost == Spent(4, 400, 0, 40), "as much as the others have cost"
    assert found.lost_usd == pytest.approx(4 * 140e-6)
    spending.leave(second, billed=0)
    assert cost(spending) == found


def test_under_a_budget_what_it_had_in_hand_is_lost_and_not_counted_a_second_time(home: Home) -> None:
    spending = home.session(max_usd=1.0)
    first = home.hire(spending)
    allowed = ask(home, spending, first, ONE)
    assert allowed.usd > 4 * ONE.usd
    tell(spending, first, report(2), in_flight=ONE)
    spending.leave(first, billed=1)
    spending.write(sync=False)
    assert (home.file.outstanding, home.file.lines[0].lost) == (Amount(), Spent())
    assert home.file.lost.usd == pytest.approx(allowed.usd - 2 * ONE.usd)
    assert cost(spending).lost_usd == pytest.approx(home.file.lost.usd)
    assert cost(spending).usd == pytest.approx(2 * ONE.usd)


def test_what_is_handed_out_is_on_disk_before_it_arrives(home: Home) -> None:
    spending = home.session(max_tokens=10_000)
    member = home.hire(spending)
    allowed = ask(home, spending, member, ONE)
    assert allowed == Amount(inf, allowed.tokens, inf)
    assert home.file.outstanding.tokens == allowed.tokens > 0
    tell(spending, member, report(3), in_flight=ONE)
    spending.write(sync=False)
    assert home.file.outstanding.tokens == pytest.approx(allowed.tokens - 330), "in flight is not spent for certain"


def test_credit_that_cannot_be_written_down_is_not_handed_out(home: Home) -> None:
    spending = home.session(max_tokens=10_000)
    member = home.hire(spending)
    home.block()
    with pytest.raises(MachineError, match="Is a directory"):
        ask(home, spending, member, ONE)
    assert home.said(member) == []


def test_a_worker_that_drains_is_given_nothing_more_and_a_tidy_end_loses_nothing(home: Home) -> None:
    spending = home.session(max_usd=1.0)
    member = home.hire(spending)
    allowed = ask(home, spending, member, ONE)
    home.now += 0.25
    tell(spending, member, report(30))
    member.become("draining")
    spending.short(member, Short(Amount(0.0, 0.0, allowed.usd - 30 * ONE.usd), Amount()))
    tell(spending, member, report(30))
    assert not spending.pressing
    for _ in range(20):
        home.now += 0.25
        spending.tick(home.now, due=True)
    assert home.said(member) == []
    spending.leave(member, billed=0)
    spending.write(sync=True)
    assert home.file.lost.usd == pytest.approx(0.0, abs=1e-12)
    assert home.file.outstanding == Amount()


def test_a_budget_that_was_used_up_before_ends_the_session_when_somebody_needs_it(home: Home) -> None:
    spending = home.session(max_requests=5)
    member = home.hire(spending)
    tell(spending, member, report(5))
    spending.leave(member, billed=0)
    spending.write(sync=True)
    spending = home.session(max_requests=5)
    member = home.hire(spending)
    for _ in range(8):
        home.now += 0.25
        spending.tick(home.now, due=True)
    with pytest.raises(BudgetError, match=r"budget\.max_requests: 5 of 5 is spent"):
        ask(home, spending, member, ONE)
    assert home.said(member) == []


def test_a_session_begins_with_all_that_was_spent_lost_and_handed_out_before(home: Home) -> None:
    spending = home.session(max_requests=100)
    first, second = home.hire(spending), home.hire(spending)
    ask(home, spending, first, ONE)
    allowed = ask(home, spending, second, ONE)
    tell(spending, first, report(6, requests=8, doubtful=Spent(2, 200, 0, 20)))
    tell(spending, second, report(3))
    spending.leave(first, billed=0)
    spending.write(sync=True)
    before = home.file
    assert before.outstanding.requests == allowed.requests - 3

    spending = home.session(max_requests=100)  # that one was killed
    assert spending.left is not None
    assert spending.left.requests == pytest.approx(100 - 8 - 3 - before.lost.requests - before.outstanding.requests)
    member = home.hire(spending)
    tell(spending, member, report(4))
    found = cost(spending)
    assert (found.requests, found.tokens) == (15, 13 * 110)
    assert found.lost.requests == 2 + round(before.lost.requests + before.outstanding.requests)


def test_what_a_server_does_not_tell_counts_as_it_was_estimated_also_in_the_next_session(home: Home) -> None:
    spending = home.session(max_tokens=10_000)
    member = home.hire(spending)
    allowed = ask(home, spending, member, ONE)
    tell(spending, member, report(4, prompt=0, completion=0))
    assert member.heartbeat is not None
    spending.heartbeat(member, Heartbeat(**{**_fields(member.heartbeat), "spent": Amount(4.0, 440.0, 0.0)}))
    spending.short(member, Short(Amount(0.0, allowed.tokens - 440.0, 0.0), Amount()))
    spending.leave(member, billed=0)
    spending.write(sync=True)
    assert home.file.lost.tokens == pytest.approx(440)
    spending = home.session(max_tokens=10_000)
    assert spending.left is not None
    assert spending.left.tokens == pytest.approx(10_000 - 440)


def _fields(heartbeat: Heartbeat) -> dict[str, Any]:
    return {name: getattr(heartbeat, name) for name in heartbeat.__struct_fields__}


def test_a_renamed_provider_does_not_set_the_budget_back(home: Home) -> None:
    spending = home.session(max_usd=1.0)
    member = home.hire(spending)
    tell(spending, member, report(1000))
    spending.leave(member, billed=0)
    spending.write(sync=True)
    spending = home.session(providers=("other",), max_usd=1.0)
    assert spending.left is not None
    assert spending.left.usd == pytest.approx(1.0 - 1000 * ONE.usd)


def test_models_are_told_apart_by_what_replies_name_and_no_request_is_forgotten(home: Home) -> None:
    spending = home.session()
    member = home.hire(spending)
    models = {"big": Spent(2, 200, 0, 20), "small": Spent(3, 300, 0, 30)}
    tell(spending, member, report(5, requests=9, models=models, doubtful=Spent(1, 100), wasted=Spent(1, 100, 0, 10)))
    found = cost(spending)
    assert {line.model: line.spent.tokens for line in found.lines} == {"big": 220, "small": 330}
    assert (found.requests, found.tokens, found.lost) == (9, 550, Spent(1, 100))


def test_the_prices_of_models_that_only_replies_named_are_looked_for_at_the_end(home: Home) -> None:
    spending = home.session()
    member = home.hire(spending)
    tell(spending, member, report(1, models={"m-2024-08-06": Spent(1, 100, 0, 10)}))
    assert (cost(spending).usd, cost(spending).unpriced) == (None, ("m-2024-08-06",))
    final = spending.final(Totals(rows=1), 2)
    assert final.usd == pytest.approx(140e-6)
    assert final.projected_usd == pytest.approx(280e-6)
    assert final.unpriced == ()


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["beat", "beat", "beat", "leave", "write"]), st.integers(0, 5)),
        max_size=25,
    ),
    st.booleans(),
)
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_through_any_deaths_and_sessions_every_reply_is_in_the_lines_once(
    home: Home, steps: list[tuple[int, str, int]], again: bool
) -> None:
    spending = home.session(workers=3)
    earlier = cost(spending)
    members: dict[int, Member] = {}
    sums: dict[int, int] = {}  # incarnation -> replies that it has told
    for place, what, replies in steps:
        member = members.get(place)
        if member is None:
            member = members[place] = home.hire(spending)
        if what == "beat":
            sums[member.incarnation] = sums.get(member.incarnation, 0) + replies
            tell(spending, member, report(sums[member.incarnation]))
        elif what == "leave":
            spending.leave(members.pop(place), billed=0)
        else:
            spending.write(sync=False)
    for member in members.values():
        spending.leave(member, billed=0)
    spending.write(sync=False)
    if again:
        spending = home.session()
    found = cost(spending)
    replies = sum(sums.values())
    assert (found.requests - earlier.requests, found.tokens - earlier.tokens) == (replies, replies * 110)


def collected(journal: BatchJournal, part: int, spent: Spent) -> Try:
    t = Try(
        part=part, number=1, first_row=part, end_row=part + 1, requests=1, rows=1, size=1, crc=1, tokens=1,
        reserved=Amount(1, 100, 0.5), asked_to=part + 1, counted_from=1, since=1.0,
    )  # fmt: skip
    journal.built(t)
    journal.uploading(t, 2.0)
    journal.uploaded(t, "file", 3.0)
    journal.creating(t, 4.0)
    journal.created(t, "batch", 5.0, 5.0)
    if spent.requests:
        journal.ended(t, "completed", "out", None, 6.0)
        journal.collected(t, spent, Spent(), 1, 0, 0, 7.0)
    return t


@pytest.mark.parametrize("mode", ["batch", "live"])
def test_what_batches_of_earlier_sessions_have_cost_is_known_before_any_worker_tells_it(home: Home, mode: str) -> None:
    home.session()
    journal = BatchJournal.open(home.journal, "run-1")
    collected(journal, 0, Spent(1, 100, 0, 10))
    collected(journal, 1, Spent())  # at work
    journal.close()
    spending = home.session(mode=mode, max_tokens=1000.0)
    whole = cost(spending)
    assert (whole.requests, whole.tokens) == (1, 110)
    assert [line.mode for line in whole.lines] == ["batch"]
    assert whole.reserved_usd == (0.5 if mode == "batch" else 0.0)
    assert spending.parts == ((1, 2) if mode == "batch" else None)
    # A worker of batches counts them itself against what is left.
    assert spending.left == Amount(inf, 1000.0 if mode == "batch" else 890.0, inf)


def test_the_figures_that_are_taken_four_times_a_second_are_cheap(home: Home) -> None:
    """Counted in calls, which a busy machine does not change: eight workers and two providers are 40 us."""
    spending = home.session(providers=("main", "other"), workers=8, max_usd=1.0)
    for _ in range(8):
        tell(spending, home.hire(spending), report(100), report(50))
    assert calls(lambda: cost(spending)) < 1000


def calls(what: Callable[[], object]) -> int:
    """Count the calls of functions that something takes."""
    count = 0

    def counted(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        what()
    finally:
        sys.setprofile(before)
    return count


# What a worker that was killed had not told


def test_what_a_killed_worker_spent_since_its_last_word_is_spent_and_not_lost(home: Home) -> None:
    spending = home.session(max_tokens=10_000.0)
    member = home.hire(spending)
    spending.short(member, Short(Amount(), Amount(1.0, 110.0)))
    spending.tick(home.now, due=True)
    granted = home.file.outstanding.tokens
    assert granted >= 330
    tell(spending, member, report(1))
    assert member.heartbeat is not None
    member.heartbeat = msgspec.structs.replace(member.heartbeat, providers=[report(3)])  # as its board says
    spending.leave(member, 0)
    assert cost(spending).tokens == 330
    spending.write(sync=False)
    assert home.file.lost.tokens == granted - 330
    again = home.session(max_tokens=10_000.0)
    assert again.left is not None
    assert again.left.tokens == 10_000 - granted, "never less than it may have spent, and nothing twice"


def test_outcomes_on_the_disk_whose_spending_was_lost_are_counted_at_the_end(home: Home) -> None:
    spending = home.session()
    totals = Totals(rows=7, prompt_tokens=700, completion_tokens=70, requests=9)
    final = spending.final(totals, 7)
    assert (final.requests, final.tokens) == (9, 770)
    assert final.usd == pytest.approx((700 * IN + 70 * OUT) / 1e6)
    member = home.hire(spending)
    tell(spending, member, report(8))
    final = spending.final(totals, 7)
    assert (final.requests, final.tokens) == (9, 880), "each figure is at least what the outcomes took"
    tell(spending, member, report(12))
    assert spending.final(totals, 7).requests == 12
