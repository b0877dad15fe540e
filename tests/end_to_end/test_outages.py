"""Providers that fail for a while, for ever, or now and then: hardly asked while they do, and nothing is lost."""

import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.end_to_end.conftest import Arrival, Place, Server, Started, Witness, until
from tests.end_to_end.several import Answer, error, fail, heard, last_session, when_still

BROKEN = error("The server had an error", "server_error")
REFUSED = error("Invalid value for 'temperature'", "invalid_request_error", "invalid_value")


def still_at_work(started: Started, seconds: float) -> None:
    """Let so much time go by, in which the command does not end."""
    with pytest.raises(subprocess.TimeoutExpired):
        started.process.wait(seconds)


@pytest.mark.quiet
def test_an_outage_costs_few_requests_and_no_row_and_is_over_soon_after_its_end(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    rows = 1500
    witness = simulator(latency_ms=50)
    place.configure(witness.url)
    place.write_rows(rows)
    started = place.start()
    until(lambda: witness.stats()["requests"] >= 400, "the run to be in full swing")
    began = time.monotonic()
    fail(witness, "default", "503")
    until(lambda: "provider main: failing; only probes are sent: overloaded (HTTP 503, " in place.log, "word of it")
    met = when_still(lambda: witness.stats()["requests"])
    still_at_work(started, 1.5)
    assert witness.stats()["requests"] - met <= 3, "one probe at a time, a second apart and more"
    fail(witness, "default", None)
    outage_s = time.monotonic() - began
    done = started.wait()
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(rows)
    stats = witness.stats()
    assert stats["requests"] <= 1.15 * rows
    log = place.log
    assert log.index("provider main: failing") < log.index("provider main: answers again")
    assert (log.count("failing"), log.count("answers again")) == (1, 1)
    assert "provider main: failing" in done.err
    figures = last_session(place)["providers"]["main"]
    assert figures["opened"] == 1
    # The last of them waited out a backoff, the others came as soon as the probes were well.
    assert last_session(place)["elapsed_s"] < rows / 400 + outage_s + 7


class Slammer:
    """Listens, and resets every connection as soon as it is there."""

    def __init__(self) -> None:
        self.connections: list[float] = []
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            if self._socket.gettimeout() == 0.0:
                connection.close()
                return
            self.connections.append(time.monotonic())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

    def stop(self) -> None:
        """Let the thread end: a last connection tells it to."""
        address = self._socket.getsockname()
        self._socket.settimeout(0.0)
        with socket.create_connection(address):
            self._thread.join()
        self._socket.close()


@pytest.fixture
def slammer() -> Iterator[Slammer]:
    slammer = Slammer()
    yield slammer
    slammer.stop()


@pytest.mark.timed
@pytest.mark.parametrize("kind", ["resets", "is not there"])
def test_a_server_that_never_answers_is_not_hammered_and_costs_no_row(
    place: Place,
    *,
    slammer: Slammer,
    nobody: str,
    server: Callable[..., Server],
    simulator: Callable[..., Witness],
    reference: Callable[[int], bytes],
    kind: str,
) -> None:
    place.configure(slammer.url if kind == "resets" else nobody)
    other = server()
    if kind != "resets":  # so that it is not given up before the signal, but in a minute
        other.hold(0)
        with (place.folder / "config.toml").open("a") as file:
            file.write(f'[[provider]]\nname = "other"\nbase_url = "{other.url}"\n')
    place.write_rows(200)
    started = place.start()
    said = heard(started, "provider main: failing; only probes are sent: connection (connection failed: ")
    said += heard(started, "provider main: failing")
    met = when_still(lambda: len(slammer.connections))
    if kind != "resets":
        started.signal(signal.SIGINT)
        until(lambda: "SIGINT" in place.log, "the signal heard")
        other.go_on()
    done = started.wait(10)
    assert done.code == (4 if kind == "resets" else 130), done.err
    session = last_session(place)
    if kind == "resets":
        # The client itself may try a reset connection once more.
        assert len(slammer.connections) - met <= 2 * 3
        assert 1 <= len(slammer.connections) <= 2 * session["providers"]["main"]["requests"]
    # 20 in a row, what else was in flight in each of two workers, and the probes.
    assert session["providers"]["main"]["requests"] <= 2 * (20 + 16) + 5
    assert session["providers"]["main"]["answered"] == 0
    assert place.report["totals"]["failed"] == 0
    place.configure(simulator().url)
    done = place.run()
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(200)


def test_one_error_on_every_row_stops_the_run_early_and_what_was_not_sent_is_sent_by_the_next_one(
    place: Place, server: Callable[..., Server]
) -> None:
    put_right = threading.Event()

    def decide(_: Arrival) -> Answer | None:
        time.sleep(0.01)
        return None if put_right.is_set() else (400, {}, REFUSED)

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(600)
    done = place.run()
    assert done.code == 4, done.err
    assert "the same error on " in done.err
    assert "Invalid value for 'temperature'" in done.err
    assert not place.output.exists()
    # A hundred over all workers, and what was in flight.
    sent = len(witness.arrivals)
    assert 50 <= sent <= 100 + 2 * 16
    assert place.report["totals"]["failed"] == sent == len(place.recorded())
    put_right.set()
    done = place.run()
    assert done.code == 1, done.err
    assert len(witness.arrivals) == 600, "no row was sent twice"
    assert [line["index"] for line in place.lines] == list(range(600))
    assert sum(line["output"] is not None for line in place.lines) == 600 - sent
    assert {row["class"] for row in place.failed} == {"invalid_request"}


def test_one_error_on_a_fifth_of_the_rows_stops_nothing(place: Place, server: Callable[..., Server]) -> None:
    witness = server(lambda arrival: (400, {}, REFUSED) if arrival.row % 5 == 0 else None)
    place.configure(witness.url)
    place.write_rows(900)
    done = place.run()
    assert done.code == 1, done.err
    assert len(witness.arrivals) == 900
    assert [row["index"] for row in place.failed] == list(range(0, 900, 5))
    assert sum(line["output"] is not None for line in place.lines) == 720
    assert last_session(place)["providers"]["main"]["state"] == "open"


@pytest.mark.quiet
def test_retries_stay_within_their_share(
    place: Place, server: Callable[..., Server], reference: Callable[[int], bytes]
) -> None:
    witness = server(lambda each: (500, {}, BROKEN) if each.nth == 1 and each.row % 5 == 0 else None)
    place.configure(witness.url)
    place.write_rows(300)
    share, floor_per_s = 0.01, 12.0
    done = place.run("--set", f"retry.share={share}", "--set", f"retry.floor_per_s={floor_per_s}")
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(300)
    retries = sorted(each.at for each in witness.arrivals if each.nth > 1)
    assert len(retries) == 60
    began = min(each.at for each in witness.arrivals)
    at_the_start = 2 * 10  # each of two workers has ten
    assert len(retries) > share * 360 + floor_per_s * 1.3 + at_the_start, "their backoff alone would let them go sooner"
    for number, at in enumerate(retries, 1):
        sent = sum(each.at <= at for each in witness.arrivals)
        assert number <= share * sent + floor_per_s * (at - began) + at_the_start + 2
    assert "retry budget used up: " in done.err
    assert last_session(place)["providers"]["main"]["retries"] == len(retries)
