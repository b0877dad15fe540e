"""Limit headers: read as OpenAI writes them; whatever else stands there is counted and never raises."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.leases import LimitSample
from rowmill.simulator.limits import EnforcedLimits, duration
from rowmill.transport.limit_headers import read, seconds

SOUND = {
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-reset-requests": "8.64s",
    "x-ratelimit-limit-tokens": "2000000",
    "x-ratelimit-remaining-tokens": "1999000",
    "x-ratelimit-reset-tokens": "30ms",
}


def of(headers: dict[str, str]) -> tuple[LimitSample | None, LimitSample | None, int]:
    def header(name: str, /) -> str | None:
        return headers.get(name)

    return read(header)


def test_both_triples_are_read() -> None:
    requests, tokens, odd = of(SOUND)
    assert requests == LimitSample(10_000, 9999, 8.64)
    assert tokens == LimitSample(2_000_000, 1_999_000, 0.03)
    assert odd == 0


def test_no_headers_is_no_sample_and_nothing_odd() -> None:
    assert of({}) == (None, None, 0)


@pytest.mark.parametrize("missing", SOUND)
def test_a_triple_needs_all_three_and_an_absent_one_is_not_odd(missing: str) -> None:
    requests, tokens, odd = of({name: text for name, text in SOUND.items() if name != missing})
    assert odd == 0
    assert (requests is None) == missing.endswith("requests")
    assert (tokens is None) == missing.endswith("tokens")


@pytest.mark.parametrize("name", [name for name in SOUND if name.endswith("requests")])
@pytest.mark.parametrize(
    "text",
    ["", " ", "-1", "-5s", "many", "nan", "inf", "1e400", "1_000", "0x10", "9" * 400, "1e15", "\u0661\u0662", "1,000"],
)
def test_what_makes_no_sense_is_counted_once_and_takes_its_triple_with_it(name: str, text: str) -> None:
    requests, tokens, odd = of({**SOUND, name: text})
    assert requests is None
    assert odd == 1
    assert tokens is not None, "the other limit is not affected"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x-ratelimit-limit-requests", "0"),
        ("x-ratelimit-remaining-requests", "10001"),
        ("x-ratelimit-reset-requests", "1760000000"),  # a Unix time
        ("x-ratelimit-reset-requests", "999h"),
        ("x-ratelimit-reset-requests", "5 minutes"),
        ("x-ratelimit-limit-requests", "2000000000000"),
    ],
)
def test_numbers_that_no_limit_can_have_are_counted(name: str, text: str) -> None:
    requests, _, odd = of({**SOUND, name: text})
    assert (requests, odd) == (None, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12ms", 0.012),
        ("8.64s", 8.64),
        ("6m0s", 360),
        ("1h2m3s", 3723),
        ("2m59.56s", 179.56),
        ("1d2h", 93_600),
        ("90", 90),
        ("0.5", 0.5),
        ("0s", 0),
        (" 1s ", 1),
        ("500\u00b5s", 0.0005),
        ("1s1", None),
        ("s", None),
        ("1w", None),
    ],
)
def test_durations(text: str, expected: float | None) -> None:
    assert seconds(text) == (None if expected is None else pytest.approx(expected))


@settings(deadline=None)
@given(st.floats(0, 86_400))
def test_what_the_simulator_writes_is_read_back(time: float) -> None:
    read_back = seconds(duration(time))
    assert read_back is not None
    assert time - 1e-6 <= read_back <= time + (1.001 if time >= 60 else 0.0011)


def test_the_simulators_headers_are_sound() -> None:
    limits = EnforcedLimits(6000, 100_000)
    for _ in range(50):
        assert limits.admit(30, 0.0) is None
    assert of(limits.headers(0.1)) == (LimitSample(6000, 5960, 0.4), LimitSample(100_000, 98_666, 0.8), 0)


numbers = st.text(alphabet="0123456789.-+hmsdun e_naif\u00b5", max_size=12) | st.text(max_size=60)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(SOUND)), numbers))
def test_any_text_at_all_is_a_sound_sample_or_none(headers: dict[str, str]) -> None:
    requests, tokens, odd = of(headers)
    assert 0 <= odd <= len(headers)
    for sample in (requests, tokens):
        if sample is not None:
            assert 0 <= sample.remaining <= sample.limit <= 1e12
            assert sample.limit > 0
            assert 0 <= sample.reset_s <= 32 * 86_400
    if len(headers) == len(SOUND) and None in (requests, tokens):
        assert odd
