"""Why a run is not faster: what holds it back most is named, and nothing where nothing is known."""

from typing import Any

import msgspec
import pytest

from rowmill.core.counts import Counters, ProviderReport
from rowmill.core.reports import ProviderView, WorkerView
from rowmill.ipc.messages import Heartbeat
from rowmill.supervisor.bottleneck import slowed_by
from rowmill.supervisor.machine.monitor import Condition

MAIN = ProviderView(
    name="main", state="open", in_flight=9, allowed=10, requests=5, answered=4, requests_per_s=10.0, tokens_per_s=None
)
SPARE = msgspec.structs.replace(MAIN, name="spare", requests_per_s=None, tokens_per_s=500.0)
IDLE, BUSY = (WorkerView(0, 1, "working", 5, 0, share) for share in (0.2, 0.95))


def beat(*reports: ProviderReport, retries_short: bool = False) -> Heartbeat:
    return Heartbeat(Counters(), 0, 0, 0, None, 0, 0.0, {}, [*reports], 0.0, retries_short)


RATE, SLOTS, NOTHING = ProviderReport(wants_rate=True), ProviderReport(wants_slots=True), ProviderReport()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("", "")),
        ({"workers": []}, ("", "")),
        ({"condition": Condition(paused=True), "beats": [beat(RATE)]}, ("disk", "a disk is nearly full")),
        ({"condition": Condition(factor=0.5)}, ("memory", "memory is short")),
        ({"workers": [BUSY, BUSY, IDLE], "beats": [beat(RATE)] * 3}, ("cpu", "CPU: 2 of 3 workers use a core each")),
        ({"workers": [BUSY, IDLE]}, ("", "")),
        ({"beats": [beat(RATE)]}, ("rate", "the rate of main: 600 requests a minute")),
        ({"beats": [beat(RATE), beat(NOTHING), beat(NOTHING)]}, ("", "")),
        ({"beats": [beat(SLOTS)]}, ("concurrency", "requests in flight: 10, as many as answer well")),
        ({"beats": [beat(SLOTS)], "auto": False}, ("concurrency", "requests in flight: 10, workers.concurrency")),
        ({"beats": [beat(SLOTS, retries_short=True)]}, ("retries", "the budget for retries is used up (retry.share)")),
        (
            {"providers": [MAIN, SPARE], "beats": [beat(RATE, RATE)]},
            ("rate", "the rate of main: 600 requests a minute; the rate of spare: 30,000 tokens a minute"),
        ),
        ({"providers": [MAIN, SPARE], "beats": [beat(RATE, NOTHING)]}, ("", "")),
        (
            {"providers": [msgspec.structs.replace(MAIN, state="failing"), SPARE], "beats": [beat(NOTHING, RATE)]},
            ("rate", "the rate of spare: 30,000 tokens a minute"),
        ),
        (
            {"providers": [msgspec.structs.replace(MAIN, state="holding")], "beats": [beat(RATE)]},
            ("providers", "providers that take no requests now (main: holding)"),
        ),
        (
            {"providers": [MAIN, SPARE], "beats": [beat(NOTHING), beat(RATE)], "asked": [(0,), (1,)]},
            ("rate", "the rate of spare: 30,000 tokens a minute"),
        ),
        (
            {"providers": [MAIN, SPARE], "beats": [beat(SLOTS, NOTHING), beat(NOTHING)], "asked": [(1, 0), (0,)]},
            ("concurrency", "requests in flight: 10, as many as answer well"),
        ),
    ],
)
def test_what_holds_back_most_is_named(given: dict[str, Any], expected: tuple[str, str]) -> None:
    usual: dict[str, Any] = {"condition": Condition(), "providers": [MAIN], "workers": [IDLE], "beats": [beat(NOTHING)]}
    each = {**usual, "auto": True, "asked": None, **given}
    found = slowed_by(
        each["condition"], each["providers"], each["workers"], each["beats"], auto=each["auto"], asked=each["asked"]
    )
    assert found == expected
