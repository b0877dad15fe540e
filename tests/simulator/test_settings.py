"""Settings that cannot be are refused by key, and those of a single provider too."""

from typing import Any

import msgspec
import pytest

from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator.settings import check


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"latency_ms": -1.0}, "latency_ms must be a number of 0 or more, not -1"),
        ({"latency_sigma": float("nan")}, "latency_sigma must be"),
        ({"per_token_ms": -0.5}, "per_token_ms must be"),
        ({"reply_tokens": float("inf")}, "reply_tokens must be"),
        ({"hang_s": -1.0}, "hang_s must be"),
        ({"parallel": 0}, "parallel must be at least 1, not 0"),
        ({"parallel": 1, "queue": -1}, "queue must be at least 0, not -1"),
        ({"queue": 1}, "queue needs parallel"),
        ({"knee": 0.5}, "knee must be at least 1"),
        ({"knee": float("nan")}, "knee must be at least 1"),
        ({"batch_s": -1.0}, "batch_s must be"),
        ({"refuse": ("half",)}, "refuse: 'half' is nothing that can be refused; these are: whole, stream_options, "),
        ({"batch_enqueued_tokens": 0}, "batch_enqueued_tokens must be at least 1, not 0"),
        ({"batch_script": ("ok", "lost")}, "unknown word 'lost'"),
        ({"upload_script": ("expired",)}, "unknown word 'expired'"),
        ({"batch_faults": {"missing": 0.6, "twice": 0.6}}, "sum to 1.2"),
        ({"batch_faults": {"missing": float("nan")}}, "from 0 to 1"),
        ({"batch_faults": {"reset": 0.1}}, "unknown word 'reset'"),
        ({"providers": {"east": SimulatorSettings(state="s")}}, r"providers\.east\.state: a provider has no state"),
        ({"requests_per_minute": 0.0}, "above 0"),
        ({"tokens_per_minute": -1.0}, "above 0"),
        ({"faults": {"resett": 0.1}}, "did you mean 'reset'"),
        ({"content_faults": {"500": 0.1}}, "no content fault"),
        ({"providers": {"east": SimulatorSettings(knee=0.0)}}, r"providers\.east\.knee must be"),
        ({"providers": {"a/b": SimulatorSettings()}}, "'a/b' is no path prefix"),
        ({"providers": {"a": SimulatorSettings(providers={"b": SimulatorSettings()})}}, "no providers of its own"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_key(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        check(SimulatorSettings(**settings))


def test_the_defaults_and_unusual_right_settings_are_taken() -> None:
    check(SimulatorSettings())
    check(
        SimulatorSettings(batch_script=("create_lost+expired:0.5",), batch_faults={"500": 0.5, "twice": 0.5}, state="s")
    )
    check(SimulatorSettings(parallel=1, queue=0, knee=1.0, providers={"a.b-c_1": SimulatorSettings(parallel=3)}))


def test_a_providers_settings_are_read_from_a_table_of_their_own() -> None:
    tree = {"latency_ms": 5, "providers": {"east": {"requests_per_minute": 600, "parallel": 4}}}
    settings = msgspec.convert(tree, SimulatorSettings)
    assert settings.providers["east"] == SimulatorSettings(requests_per_minute=600, parallel=4)
    with pytest.raises(msgspec.ValidationError, match="paralel"):
        msgspec.convert({"providers": {"east": {"paralel": 4}}}, SimulatorSettings)
