"""What is measured is told once, in milliseconds and tokens."""

from rowmill.core.histograms import Distributions
from rowmill.worker.live.measured import Measured


def test_values_are_told_once() -> None:
    measured = Measured()
    measured.latencies += [0.0125, 0.0129, 0.02]
    measured.slot_waits.append(0.003)
    measured.rate_waits.append(0.001)
    measured.prompt_tokens += [5, 5]
    measured.completion_tokens.append(9)
    assert measured.taken() == Distributions(
        latency_ms={12: 2, 20: 1},
        slot_wait_ms={3: 1},
        rate_wait_ms={1: 1},
        prompt_tokens={5: 2},
        completion_tokens={9: 1},
    )
    assert measured.taken() == Distributions()
