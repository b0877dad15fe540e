"""An interrupt reaches the run of its thread, and no other, whenever it comes."""

import threading

import pytest

from rowmill.core.interrupts import Interrupts, interrupted_by, of_this_thread


def test_an_interrupt_is_noted_before_during_and_not_after() -> None:
    interrupts, heard = Interrupts(), list[int]()
    interrupts.check()
    interrupts.send()
    with interrupts.noted(lambda: heard.append(1)):
        assert len(heard) == 1, "that of before is told at once"
        interrupts.send()
        assert len(heard) == 2
    interrupts.send()
    assert (len(heard), interrupts.sent) == (2, 3)
    with pytest.raises(KeyboardInterrupt):
        interrupts.check()


def test_each_thread_has_its_own() -> None:
    mine = Interrupts()
    seen: list[Interrupts | None] = []
    assert of_this_thread() is None
    with interrupted_by(mine):
        assert of_this_thread() is mine
        other = threading.Thread(target=lambda: seen.append(of_this_thread()))
        other.start()
        other.join()
        with interrupted_by(Interrupts()):
            assert of_this_thread() is not mine
        assert of_this_thread() is mine
    assert of_this_thread() is None
    assert seen == [None]
