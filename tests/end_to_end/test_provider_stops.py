"""What would fail every row stops the run early, costs no row, and keeps the key to itself."""

import threading
from collections.abc import Callable

import pytest

from tests.end_to_end.conftest import Arrival, Place, Server, Witness
from tests.end_to_end.several import error, no_secret

KEY = "sk-a-secret-of-twenty-five"
WELL = 40  # requests that are answered before the provider refuses


REFUSALS: dict[str, tuple[int, bytes, str]] = {
    "wrong key": (401, error("x" * 480 + f" {KEY} is wrong", "invalid_request_error", "invalid_api_key"), "auth"),
    "no model": (
        404,
        error("The model `sim-small` does not exist", "invalid_request_error", "model_not_found"),
        "not_found",
    ),
    "no credit": (429, error("You exceeded your quota", "insufficient_quota", "insufficient_quota"), "quota_exhausted"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_of_the_provider_stops_the_run_and_the_same_command_ends_it(
    place: Place, server: Callable[..., Server], reference: Callable[[int], bytes], name: str
) -> None:
    status, body, kind = REFUSALS[name]
    put_right = threading.Event()

    def decide(_: Arrival) -> tuple[int, dict[str, str], bytes] | None:
        return None if put_right.is_set() or len(witness.arrivals) <= WELL else (status, {}, body)

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(600)
    place.environ["ROWMILL_TEST_KEY"] = KEY
    key = ("--set", "provider.api_key_env=ROWMILL_TEST_KEY")
    done = place.run(*key)
    assert (done.code, done.out) == (4, ""), done.err
    assert "Traceback" not in done.err
    no_secret(place, done, KEY)
    assert f"provider 'main': {kind} (HTTP {status}, " in done.err
    assert not place.output.exists()
    assert {arrival.authorization for arrival in witness.arrivals} == {f"Bearer {KEY}"}
    # What was on its way in each worker when its first refusal came, and no more.
    assert len(witness.arrivals) <= WELL + 2 * 16
    (session,) = place.report["sessions"]
    assert session["providers"]["main"]["state"] == "closed"
    assert (session["exit_code"], session["deaths"]) == (4, 0)
    assert kind in session["stopped_by"]
    recorded = place.recorded()
    assert 0 < len(recorded) <= WELL
    assert place.report["totals"] | {"failed": 0, "rows": len(recorded)} == place.report["totals"]

    put_right.set()
    before = len(witness.arrivals)
    done = place.run(*key)
    assert done.code == 0, done.err
    asked = sorted(arrival.row for arrival in witness.arrivals[before:])
    assert asked == sorted(set(range(600)) - recorded)
    assert place.output.read_bytes() == reference(600)
    no_secret(place, done, KEY)


@pytest.mark.parametrize("transport", ["direct", "sdk"])
def test_a_wrong_key_at_the_simulator(place: Place, simulator: Callable[..., Witness], transport: str) -> None:
    witness = simulator()
    place.configure(witness.url)
    place.write_rows(200)
    key = ("--set", "provider.api_key_env=ROWMILL_TEST_KEY", "--set", f"client.transport={transport}")
    place.environ["ROWMILL_TEST_KEY"] = "invalid-key-of-nobody"
    done = place.run(*key)
    assert done.code == 4, done.err
    assert "put right what is named above" in done.err
    # What was in flight in each worker, and once more each when no word of an answer had come from the other.
    assert witness.stats()["requests"] <= 2 * 16 + 2
    no_secret(place, done, "invalid-key-of-nobody")
    place.environ["ROWMILL_TEST_KEY"] = "sk-right"
    assert place.run(*key).code == 0
    assert [line["index"] for line in place.lines] == list(range(200))
    assert witness.stats()["by_status"]["200"] == 200


def test_a_key_goes_only_where_it_was_meant_for(place: Place, server: Callable[..., Server]) -> None:
    witness = server()
    place.configure(witness.url)
    place.write_rows(20)
    place.environ |= {"OPENAI_API_KEY": KEY, "OPENAI_ORG_ID": "org-secret", "OPENAI_PROJECT_ID": "proj-secret"}
    done = place.run()
    assert done.code == 0, done.err
    assert {arrival.authorization for arrival in witness.arrivals} <= {None, "Bearer "}
    no_secret(place, done, KEY)


def test_a_server_that_is_not_there(place: Place) -> None:
    """As few rows as this fail no more than many do: whatever an attempt is worth, nobody was ever there."""
    place.configure("http://127.0.0.1:9/v1")
    place.write_rows(20)
    done = place.run("--set", "retry.attempts=1")
    assert done.code == 4, done.err
    assert "Is the server running" in place.report["sessions"][-1]["stopped_by"]
    assert place.report["totals"]["failed"] == 0
    assert not place.output.exists()
