"""After the end of a run a signal only says that nobody wants to wait."""

import signal

from rowmill.supervisor.lingering import lingering


def test_a_signal_ends_the_waiting_also_before_it_has_begun_and_nothing_else() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with lingering() as wait:
        wait(0.001)
        signal.raise_signal(signal.SIGINT)
        wait(1000)
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before
