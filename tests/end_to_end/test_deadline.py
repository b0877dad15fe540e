"""`task.mode = "auto"`: batches while there is time, and the live API for what they have not brought by then."""

import calendar
import json
import time
from collections.abc import Callable

from tests.end_to_end.batching import batches, done_as, figures, listed, nothing_twice, seen, tries
from tests.end_to_end.conftest import Place, Witness

ROWS = 120
PART = 40
DEADLINE_S = 24  # of which the live API has a quarter: time enough beside other tests

Simulate = Callable[..., Witness]
Reference = Callable[[int], bytes]


def auto(deadline_s: float) -> list[str]:
    return [*batches(mode="auto", max_requests=PART, deadline_s=deadline_s), "--set=workers.count=1"]


def test_what_batches_have_not_brought_near_the_deadline_is_asked_live(
    place: Place, simulator: Simulate, reference: Reference
) -> None:
    # One is cancelled, and has done some; one stays cancelled for ever, and may have done all.
    witness = simulator(batch_s=0.3, latency_ms=2, batch_script=("stuck:0.4", "ok", "stuck:cancelling"))
    place.configure(witness.url)
    place.write_rows(ROWS)
    done = place.run(*auto(DEADLINE_S))
    done_as(place, done, reference(ROWS))
    manifest = json.loads((place.run_dir / "manifest.json").read_bytes())
    began = calendar.timegm(time.strptime(manifest["created"], "%Y-%m-%dT%H:%M:%SZ"))
    assert place.output.stat().st_mtime <= began + DEADLINE_S

    kept = 16  # 40% of the stuck one
    live = PART - kept + PART
    assert sorted((batch.status, batch.completed) for batch in listed(witness)) == [
        ("cancelled", kept),
        ("cancelling", PART // 2),
        ("completed", PART),
    ]
    assert witness.stats()["requests"] == live
    assert "the deadline is near: what is left goes to the live API" in done.err
    assert {line["mode"]: line["spent"]["requests"] for line in place.report["cost"]["lines"]} == {
        "batch": PART + kept,
        "live": live,
    }
    by_batch, by_request = place.report["sessions"]
    assert (by_batch["mode"], by_request["mode"]) == ("batch", "live")
    assert (by_batch["billed_twice_max"], by_request["billed_twice_max"]) == (PART, 0)
    assert f"{PART} requests may be billed twice" in done.err
    assert f"at most {PART} billed twice" in done.err
    assert "Traceback" not in done.err


def test_batches_that_come_in_time_need_no_live_request(
    place: Place, simulator: Simulate, reference: Reference
) -> None:
    witness = simulator(batch_s=0.5, batch_script=("expired:0.6",))
    place.configure(witness.url)
    place.write_rows(ROWS)
    done_as(place, place.run(*auto(600)), reference(ROWS))
    nothing_twice(witness, ROWS)
    assert [session["mode"] for session in place.report["sessions"]] == ["batch"]


def begun_an_hour_ago(place: Place) -> None:
    """Date the run back."""
    path = place.run_dir / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["created"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600))
    path.write_text(json.dumps(manifest))


def test_a_deadline_that_is_past_at_a_resume_makes_no_further_batch(
    place: Place, simulator: Simulate, reference: Reference
) -> None:
    witness = simulator(batch_s=0.3, latency_ms=100, batch_script=("ok", "expired:0.4", "stuck:0.4"))
    place.configure(witness.url)
    place.write_rows(ROWS)
    began = place.start(*auto(1800))
    seen(lambda: [t.phase for t in tries(place)] == ["created"] * 3, "three batches")
    began.kill_all()
    by_batch = PART + 2 * 16
    seen(lambda: figures(witness)["requests"] == by_batch, "what they do")
    begun_an_hour_ago(place)
    # In the middle of the live phase it is killed again.
    witness.hold(0)
    resumed = place.start(*auto(1800))
    seen(lambda: witness.stats()["requests"] > 0, "a live request")
    resumed.kill_all()
    witness.go_on()
    sent = witness.stats()["requests"]
    # That the live one was killed is told by the next.
    assert [session["mode"] for session in place.report["sessions"]] == ["batch", "batch"]
    done = place.run(*auto(1800))

    done_as(place, done, reference(ROWS))
    assert "the deadline was 18" in done.err  # hundred seconds ago
    assert f"{ROWS} requests are left, and the deadline was" in place.log  # it knew them all before anything else
    assert [(batch.status, batch.completed) for batch in listed(witness)] == [
        ("completed", PART),
        ("expired", 16),
        ("cancelled", 16),
    ]
    stats = witness.stats()
    assert ROWS - by_batch <= stats["requests"] <= ROWS - by_batch + sent  # what was in flight at the kill
    assert stats["batches"]["same_try"] == 0
    assert [session["mode"] for session in place.report["sessions"]] == ["batch", "batch", "live", "batch", "live"]
