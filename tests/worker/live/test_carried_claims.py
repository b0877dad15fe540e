"""Claims that are asked for by messages: few at a time, each key once, and no result is kept that nobody takes."""

import pytest

from rowmill.core.wire import Answer
from rowmill.ipc.messages import ClaimsAnswer, ClaimsAsk, ToSupervisor
from rowmill.store.cache.claims import Claim
from rowmill.store.cache.shared_results import encode
from rowmill.worker.live import carried_claims
from rowmill.worker.live.carried_claims import CarriedClaims

ANSWER = Answer(b'"yes"', b"null", b"null", b"null", 1, 1, 0)


class Driver:
    """The claims of a worker, and what it has asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.asked: list[list[bytes]] = []
        self.claims = CarriedClaims(0, self._hear)
        monkeypatch.setattr(carried_claims, "monotonic", lambda: self.now)

    def _hear(self, message: ToSupervisor) -> None:
        assert isinstance(message, ClaimsAsk)
        self.asked.append(message.keys)

    def claim(self, *keys: bytes) -> list[object]:
        """Do as who shares requests: with the lock."""
        assert self.claims.try_lock()
        states = self.claims.claim(keys)
        self.claims.unlock()
        return [*states]

    def look(self, *keys: bytes) -> list[object]:
        states = self.claims.look(keys)
        self.claims.unlock()
        return [*states]

    def answer(self, held: list[bytes] | None = None, results: list[bytes] | None = None) -> None:
        self.claims.answered(ClaimsAnswer(held or [], [(key, encode(ANSWER)) for key in results or []]))


def keys(first: int, last: int) -> list[bytes]:
    return [number.to_bytes(16) for number in range(first, last)]


def test_a_message_has_so_many_keys_and_the_next_one_waits_for_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(monkeypatch)
    wanted = keys(0, 5000)
    assert driver.claim(*wanted) == [Claim.TAKEN] * 5000
    driver.look(*wanted[:2000])
    assert driver.asked == [wanted[:2000]]
    for number in range(1, 3):
        driver.answer()
        driver.claim()
        assert driver.asked[number] == wanted[2000 * number : 2000 * number + 2000]
    driver.answer(held=wanted[4000:])
    assert driver.look(*wanted[4000:]) == [Claim.FREE] * 1000
    assert driver.claim(*wanted[4000:]) == [Claim.HELD] * 1000
    assert len(driver.asked) == 3


def test_what_others_ask_is_asked_for_again_at_a_pace_and_what_is_new_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver = Driver(monkeypatch)
    waiting = keys(0, 2000)
    driver.claim(*waiting)
    for _ in range(40):  # in one second
        driver.answer()
        driver.look(*waiting)
        driver.now += 0.025
    looked = sum(map(len, driver.asked[1:]))
    assert 6_000 <= looked <= 10_000
    driver.answer()
    driver.asked.clear()
    driver.now += 1
    new = keys(5000, 6500)
    driver.look(*waiting)
    driver.answer()
    driver.asked.clear()
    driver.claims.look(waiting)
    driver.now += 1
    driver.claim(*new)
    assert driver.asked == [[*new, *waiting[:500]]]
    # A few are not kept waiting for long.
    driver.answer()
    driver.now += 500 / 8000
    driver.look(*waiting[:10])
    assert len(driver.asked) == 2


def test_a_key_that_is_looked_at_while_it_is_asked_for_is_not_asked_for_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its result would be sent a second time, and stay; or it would be claimed for nobody, and others wait for it."""
    driver = Driver(monkeypatch)
    ended, free = keys(0, 2)
    driver.claim(ended, free)
    assert driver.look(ended, free) == [Claim.TAKEN] * 2
    driver.answer(held=[free], results=[ended])
    driver.now += 1
    assert driver.look(ended, free) == [ANSWER, Claim.FREE]
    assert driver.claim(free) == [Claim.HELD]
    driver.now += 1
    driver.look()
    assert driver.asked == [[ended, free]]
    # What has found no room in the answer is asked for again.
    driver.claim(*keys(2, 4))
    driver.answer(results=keys(2, 3))
    assert driver.look(*keys(2, 4)) == [ANSWER, Claim.TAKEN]
    assert driver.asked[-1] == keys(3, 4)
