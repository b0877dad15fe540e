import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen
from sys import executable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.errors import MachineError
from rowmill.core.wire import Answer, Failure
from rowmill.store.cache import claims as module
from rowmill.store.cache.claims import Claim, Claims, begin_session, discard, forget
from rowmill.store.cache.shared_results import encode
from rowmill.transport import faults

ANSWER = Answer(b'"yes"', b'"stop"', b'"m"', b"{}", 3, 1)
FAILURE = Failure(fault=faults.CONTENT_FILTER, message="no")


def key(number: int) -> bytes:
    return (number + 1).to_bytes(16, "little")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "claims"
    begin_session(directory)
    return directory


class Worker:
    """One worker's claims; each call takes the lock for itself."""

    def __init__(self, place: Path, incarnation: int) -> None:
        self.claims = Claims(place, incarnation)

    def claim(self, *numbers: int) -> list[Claim | Answer | Failure]:
        assert self.claims.try_lock()
        try:
            return self.claims.claim([key(number) for number in numbers])
        finally:
            self.claims.unlock()

    def look(self, *numbers: int) -> list[Claim | Answer | Failure]:
        assert self.claims.try_lock()
        try:
            return self.claims.look([key(number) for number in numbers])
        finally:
            self.claims.unlock()

    def publish(self, results: dict[int, Answer | Failure]) -> None:
        assert self.claims.try_lock()
        try:
            self.claims.publish([(key(number), encode(result)) for number, result in results.items()])
        finally:
            self.claims.unlock()

    def release(self, *numbers: int) -> None:
        assert self.claims.try_lock()
        try:
            self.claims.release([key(number) for number in numbers])
        finally:
            self.claims.unlock()


@pytest.fixture
def workers(place: Path) -> Iterator[list[Worker]]:
    made = [Worker(place, number) for number in range(3)]
    yield made
    for worker in made:
        worker.claims.close()


def test_one_holds_and_the_others_wait(workers: list[Worker]) -> None:
    assert workers[0].claim(1, 2) == [Claim.HELD, Claim.HELD]
    assert workers[1].claim(2, 3) == [Claim.TAKEN, Claim.HELD]
    assert workers[1].look(2) == [Claim.TAKEN]


def test_a_result_reaches_who_waits_and_who_comes_later(workers: list[Worker]) -> None:
    workers[0].claim(1, 2)
    workers[1].claim(1, 2)
    workers[0].publish({1: ANSWER, 2: FAILURE})
    assert workers[1].look(1, 2) == [ANSWER, FAILURE]
    assert workers[2].claim(1, 2) == [ANSWER, FAILURE]
    assert workers[0].claim(1) == [ANSWER]  # and who has asked itself


def test_results_of_several_publications_are_told_apart(workers: list[Worker]) -> None:
    numbers = range(50)
    answers = {number: Answer(b'"%d"' % number * (number + 1), b"", b"", b"", number, 0) for number in numbers}
    workers[0].claim(*numbers)
    for number in numbers:
        workers[0].publish({number: answers[number]})
    assert workers[1].claim(*numbers) == list(answers.values())


def test_a_released_key_is_free_again(workers: list[Worker]) -> None:
    workers[0].claim(1)
    workers[1].claim(1)
    workers[0].release(1)
    assert workers[1].look(1) == [Claim.FREE]
    assert workers[1].claim(1) == [Claim.HELD]
    assert workers[0].claim(1) == [Claim.TAKEN]


def test_a_dead_workers_claims_are_void_and_its_results_stay(place: Path, workers: list[Worker]) -> None:
    workers[0].claim(1, 2)
    workers[0].publish({1: ANSWER})
    workers[1].claim(2)
    forget(place, 0)
    assert workers[1].look(2) == [Claim.FREE]
    assert workers[2].claim(1, 2) == [ANSWER, Claim.HELD]  # the first that asks
    assert workers[1].claim(2) == [Claim.TAKEN]
    forget(place, 2)
    assert workers[1].claim(2) == [Claim.HELD]


def test_who_misses_the_lock_does_not_wait(workers: list[Worker]) -> None:
    assert workers[0].claims.try_lock()
    assert not workers[1].claims.try_lock()
    workers[0].claims.unlock()
    assert workers[1].claims.try_lock()
    workers[1].claims.unlock()


def test_a_new_session_knows_no_claims(place: Path, workers: list[Worker]) -> None:
    workers[0].claim(1)
    begin_session(place, floor=17)
    later = Worker(place, 0)
    assert later.claim(1) == [Claim.HELD]
    assert later.claims.floor == 17
    later.claims.close()


def test_a_session_that_goes_on_knows_how_requests_ended_and_no_claims(place: Path, workers: list[Worker]) -> None:
    workers[0].claim(1, 2)
    workers[2].claim(3)
    workers[0].publish({1: ANSWER})
    first = begin_session(place, floor=17, fresh=False)
    assert first == 3
    later = Worker(place, first)
    assert later.claim(1, 2, 3, 4) == [ANSWER, Claim.HELD, Claim.HELD, Claim.HELD]
    assert later.claims.floor == 17
    later.claims.close()


def test_after_another_start_of_the_machine_nothing_is_known(place: Path, workers: list[Worker]) -> None:
    workers[0].claim(1)
    workers[0].publish({1: ANSWER})
    session = json.loads((place / "session").read_bytes())
    (place / "session").write_text(json.dumps({**session, "boot": "another"}))
    assert begin_session(place, fresh=False) == 0
    later = Worker(place, 0)
    assert later.claim(1) == [Claim.HELD]
    later.claims.close()


def test_a_finished_run_keeps_none(place: Path, workers: list[Worker]) -> None:
    workers[0].claim(1)
    discard(place)
    assert not place.exists()


def test_a_place_that_cannot_be_used_is_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"cannot use .*/none/claims: No such file or directory"):
        begin_session(tmp_path / "none" / "claims")
    with pytest.raises(MachineError, match=r"cannot use .*claims"):
        Claims(tmp_path / "claims", 1)


@pytest.mark.parametrize("bits", [0, 4])
def test_the_table_grows_and_keeps_every_key(place: Path, monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    """Also where keys crowd together: with `bits` of 0 all of them belong into one slot."""
    monkeypatch.setattr(module, "_FIRST_SLOTS", 64)
    keys = [((number % 2**bits) + 2**64 * (number + 1)).to_bytes(16, "little") for number in range(600)]
    one, other = Claims(place, 1), Claims(place, 2)
    for start in range(0, len(keys), 20):
        for claims, expected in ((one, Claim.HELD), (other, Claim.TAKEN)):
            assert claims.try_lock()
            assert claims.claim(keys[start : start + 20]) == [expected] * 20
            claims.unlock()
    assert other.try_lock()
    assert other.look(keys) == [Claim.TAKEN] * len(keys)
    other.unlock()
    assert len(list(place.glob("slots-*"))) > 2
    for claims in (one, other):
        claims.close()


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["claim", "publish", "release", "die"]), st.integers(0, 4)),
        max_size=40,
    )
)
def test_no_key_is_ever_held_twice(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str, int]]) -> None:
    """Against a model: a key is held by one living worker at most, and once it has its result it stays so."""
    place = tmp_path_factory.mktemp("model") / "claims"
    begin_session(place)
    incarnations = [0, 1, 2]
    workers = [Worker(place, number) for number in incarnations]
    holder: dict[int, int] = {}
    ended: set[int] = set()
    for who, what, number in steps:
        if what == "claim":
            expected = ANSWER if number in ended else Claim.TAKEN if number in holder else Claim.HELD
            assert workers[who].claim(number) == [expected]
            if number not in ended:
                holder.setdefault(number, who)
        elif what == "die":
            workers[who].claims.close()
            forget(place, incarnations[who])
            incarnations[who] = max(incarnations) + 1
            workers[who] = Worker(place, incarnations[who])
            holder = {key: worker for key, worker in holder.items() if worker != who}
        elif holder.get(number) == who:
            del holder[number]
            if what == "publish":
                workers[who].publish({number: ANSWER})
                ended.add(number)
            else:
                workers[who].release(number)
    for worker in workers:
        worker.claims.close()


WITH_THE_LOCK = """
import sys
from pathlib import Path
from rowmill.store.cache.claims import Claims
claims = Claims(Path(sys.argv[1]), 0)
assert claims.try_lock()
claims.claim([(number + 1).to_bytes(16, "little") for number in range(int(sys.argv[2]))])
print("has the lock", flush=True)
sys.stdin.read()
"""


def test_a_worker_stopped_with_the_lock_silences_nobody_and_killed_gives_it_back(
    place: Path, workers: list[Worker]
) -> None:
    with Popen([executable, "-c", WITH_THE_LOCK, place, "3"], stdin=PIPE, stdout=PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        other.send_signal(signal.SIGSTOP)
        assert not workers[1].claims.try_lock()
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert workers[1].claim(2, 3) == [Claim.TAKEN, Claim.HELD]  # its death is not noted yet
        forget(place, 0)
        assert workers[1].claim(0, 1, 2) == [Claim.HELD] * 3


def test_claims_cost_no_memory_of_the_process(place: Path) -> None:
    claims = Claims(place, 1)

    def claim_and_publish(start: int) -> None:
        assert claims.try_lock()
        claims.claim(keys := [os.urandom(16) for _ in range(500)])
        claims.publish([(key, b"x" * 400) for key in keys])
        claims.unlock()

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    claim_and_publish(0)
    before = resident()
    for start in range(40):
        claim_and_publish(start)
    assert resident() - before < 1 << 20
    claims.close()
