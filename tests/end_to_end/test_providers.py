"""Several providers: rows go where there is room, or to another model; a death loses nothing, a secret stays one."""

import json
from collections import Counter
from collections.abc import Callable

import pytest

from rowmill.core.simulator import SimulatorSettings
from tests.end_to_end.conftest import Arrival, Place, Server, Witness, until
from tests.end_to_end.several import (
    Answer,
    configure,
    error,
    fail,
    last_session,
    no_secret,
    stats_of,
    url_of,
    when_still,
)

TOO_LONG = error(
    "This model's maximum context length is 8192 tokens", "invalid_request_error", "context_length_exceeded"
)
FILTERED = error("The prompt was flagged", "invalid_request_error", "content_filter")
BROKEN = error("The server had an error", "server_error")
SECRET, TOKEN = "project-secret-of-thirty-bytes", "sk-a-secret-of-twenty-five"


def test_rows_that_are_too_long_for_the_first_model_are_answered_by_the_other(
    place: Place, server: Callable[..., Server]
) -> None:
    long, filtered, hopeless = set(range(3, 200, 10)), {50, 51}, {77}

    def of_first(arrival: Arrival) -> Answer | None:
        if arrival.row in long | hopeless:
            return 400, {}, TOO_LONG
        return (400, {}, FILTERED) if arrival.row in filtered else None

    first, second = server(of_first), server(lambda each: (400, {}, FILTERED) if each.row in hopeless else None)
    configure(
        place,
        [
            {"name": "small", "base_url": first.url, "fallback": ["large"], "fallback_on": ["context_length"]},
            {"name": "large", "base_url": second.url, "model": "sim-large", "weight": 0},
        ],
        output={"include": ["meta"]},
    )
    place.write_rows(200)
    done = place.run()
    assert done.code == 1, done.err
    lines = place.lines
    assert [line["index"] for line in lines] == list(range(200))
    answered = {line["index"]: line for line in lines if line["output"] is not None}
    assert set(range(200)) - answered.keys() == filtered | hopeless
    for row, line in answered.items():
        expected = ("large", "sim-large", 2) if row in long else ("small", "sim-small", 1)
        assert (line["meta"]["provider"], line["model"], line["meta"]["requests"]) == expected
    assert {row["index"]: row["class"] for row in place.failed} == dict.fromkeys(filtered | hopeless, "content_filter")
    # Each asked once for each of its rows, for its own model.
    assert sorted(each.row for each in first.arrivals) == list(range(200))
    assert sorted(each.row for each in second.arrivals) == sorted(long | hopeless)
    assert {json.loads(each.body)["model"] for each in second.arrivals} == {"sim-large"}
    figures = last_session(place)["providers"]
    assert {name: (each["requests"], each["answered"]) for name, each in figures.items()} == {
        "small": (200, 200 - len(long | filtered | hopeless)),
        "large": (len(long | hopeless), len(long)),
    }
    usage = Counter[str]()
    for line in answered.values():
        usage[line["meta"]["provider"]] += line["usage"]["prompt_tokens"]
    assert {name: each["prompt_tokens"] for name, each in figures.items()} == usage
    shown = [line.split() for line in done.lines if line.split()[:1] in (["small"], ["large"])]
    assert [line[:3] for line in shown if line[1].startswith("sim-")] == [
        ["small", "sim-small", "200"],
        ["large", "sim-large", str(len(long | hopeless))],
    ], "what each has cost"
    assert [line[:2] for line in shown if not line[1].startswith("sim-")] == [
        ["small", "200"],
        ["large", str(len(long | hopeless))],
    ]


def test_a_provider_out_of_credit_is_closed_and_the_other_one_does_its_rows(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    poor = SimulatorSettings(latency_ms=10, script=("ok",) * 60, faults={"429-quota": 1.0})
    witness = simulator(providers={"poor": poor})
    configure(place, [{"name": name, "base_url": url_of(witness, name)} for name in ("poor", "rich")])
    place.write_rows(500)
    done = place.run()
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(500)
    seen = stats_of(witness, "poor")
    assert seen["by_status"]["200"] == 60
    assert seen["requests"] <= 60 + 2 * 16
    assert stats_of(witness, "rich")["by_status"] == {"200": 440}
    figures = last_session(place)["providers"]
    assert {name: each["state"] for name, each in figures.items()} == {"poor": "closed", "rich": "open"}
    assert (figures["poor"]["answered"], figures["rich"]["answered"]) == (60, 440)
    assert "provider poor: closed: quota_exhausted (HTTP 429, " in place.log


def test_a_fallback_stands_in_for_a_provider_that_is_closed(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    witness = simulator(providers={"first": SimulatorSettings(faults={"401": 1.0})})
    configure(
        place,
        [
            {"name": "first", "base_url": url_of(witness, "first"), "fallback": ["second"]},
            {"name": "second", "base_url": url_of(witness, "second"), "weight": 0},
        ],
    )
    place.write_rows(300)
    done = place.run()
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(300)
    assert stats_of(witness, "first")["requests"] <= 2 * 16 + 2
    assert stats_of(witness, "second")["requests"] == 300
    figures = last_session(place)["providers"]
    assert {name: each["state"] for name, each in figures.items()} == {"first": "closed", "second": "open"}


@pytest.mark.quiet
def test_one_of_three_providers_dies_and_comes_back_and_no_row_is_lost(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    weights = {"east": 1, "north": 2, "west": 5}
    witness = simulator(latency_ms=110)  # so that rows enough are left when one is seen to be back
    configure(
        place,
        [{"name": name, "base_url": url_of(witness, name), "weight": weight} for name, weight in weights.items()],
        workers={"concurrency": 12},
    )
    rows = 1500
    place.write_rows(rows)
    started = place.start()
    until(lambda: witness.stats()["requests"] >= 300, "the run to be in full swing")
    shares = {name: stats_of(witness, name)["requests"] / weight for name, weight in weights.items()}
    assert max(shares.values()) <= 1.3 * min(shares.values())
    fail(witness, "west", "reset")
    until(lambda: "provider west: failing" in place.log, "word of it")
    while_dead = when_still(lambda: stats_of(witness, "west")["requests"])
    others = stats_of(witness, "east")["requests"] + stats_of(witness, "north")["requests"]
    seen = witness.stats()["requests"]
    until(lambda: witness.stats()["requests"] >= seen + 220, "the others to stand in")
    assert stats_of(witness, "west")["requests"] - while_dead <= 5
    assert stats_of(witness, "east")["requests"] + stats_of(witness, "north")["requests"] >= others + 200
    before = stats_of(witness, "west")["requests"]
    fail(witness, "west", None)
    until(lambda: "provider west: answers again" in place.log, "its return")
    done = started.wait()
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(rows)
    figures = last_session(place)["providers"]
    assert sum(each["answered"] for each in figures.values()) == rows
    assert figures["west"]["opened"] == 1
    assert stats_of(witness, "west")["requests"] - before >= 50
    assert witness.stats()["requests"] <= 1.15 * rows


def test_what_a_header_keeps_secret_is_sent_and_never_shown(place: Place, server: Callable[..., Server]) -> None:
    echo = f"bad token {TOKEN} of project {SECRET}"
    answers: dict[int, Answer] = {
        3: (400, {}, error(echo, "invalid_request_error", "invalid_value")),
        4: (400, {}, error("x" * 470 + SECRET, "invalid_request_error", "invalid_value")),
        5: (500, {}, error(echo, "server_error")),
        6: (200, {}, echo.encode()),
        7: (500, {}, BROKEN),
    }

    def decide(arrival: Arrival) -> Answer | None:
        if arrival.row >= 250 and answers:  # the key is withdrawn
            return 401, {}, error(echo, "invalid_request_error", "invalid_api_key")
        return answers.get(arrival.row)

    witness = server(decide)
    headers = {"Authorization": "ROWMILL_TEST_TOKEN", "X-Project": "ROWMILL_TEST_PROJECT"}
    configure(
        place,
        [{"name": "main", "base_url": witness.url, "headers_env": headers}],
        retry={"attempts": 1},
        output={"include": ["meta"]},
        workers={"count": 1},
    )
    place.environ |= {"ROWMILL_TEST_TOKEN": f"Bearer {TOKEN}", "ROWMILL_TEST_PROJECT": SECRET}
    place.write_rows(300)
    done = place.run()
    assert done.code == 4, done.err
    assert "bad token [redacted] of project [redacted]" in done.err
    assert {each.authorization for each in witness.arrivals} == {f"Bearer {TOKEN}"}
    for secret in (TOKEN, SECRET, SECRET[:12]):
        no_secret(place, done, secret)
    answers.clear()
    witness.decide = lambda _: None
    done = place.run()
    assert done.code == 1, done.err
    assert {row["index"] for row in place.failed} == {3, 4, 5, 6, 7}
    assert "[redacted]" in json.dumps(place.failed[0])
    for secret in (TOKEN, SECRET, SECRET[:12]):
        no_secret(place, done, secret)
