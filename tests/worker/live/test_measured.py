"""What is measured is told once, in milliseconds and tokens."""

from rowmill.core.histograms import Distributions
from rowmill.worker.live.measured import Measured, taken_together


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
        sums={
            "latency_ms": 45.4,
            "slot_wait_ms": 3.0,
            "rate_wait_ms": 1.0,
            "prompt_tokens": 10,
            "completion_tokens": 9,
        },
    )
    assert measured.taken() == Distributions()


def test_of_several_providers_each_is_told_beside_the_whole() -> None:
    whole, first, second = Measured(), Measured(), Measured()
    whole.slot_waits.append(0.004)
    first.latencies += [0.02, 0.02]
    second.latencies.append(0.03)
    spread, each = taken_together(whole, [first, second])
    assert spread.latency_ms == {20: 2, 30: 1}
    assert spread.slot_wait_ms == {4: 1}
    assert spread.sums == {"latency_ms": 70.0, "slot_wait_ms": 4.0}
    assert [one.latency_ms for one in each] == [{20: 2}, {30: 1}]


def test_of_one_provider_the_whole_is_its_own() -> None:
    whole = Measured()
    whole.latencies.append(0.02)
    assert taken_together(whole, [whole]) == (Distributions(latency_ms={20: 1}, sums={"latency_ms": 20.0}), [])
