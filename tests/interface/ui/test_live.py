"""What a person sees on terminals of several sizes."""

import contextlib
import io
import os
import pty
import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from rowmill.core.counts import BatchView, Totals
from rowmill.core.reports import Cost, ProviderView, Snapshot, WorkerView
from rowmill.interface.ui.lines import progress_line
from rowmill.interface.ui.live import Frame, LiveProgress, terminal
from tests.interface.ui.snapshots import (
    BATCHES,
    BATCHING,
    BUSY,
    COSTLY,
    COUNTING,
    HINDERED,
    HOLDING,
    HUGE,
    LONG_WAIT,
    MAIN,
    MANY_BATCHES,
    SEVERAL,
    SINGLE,
    SPARE,
    STEPS,
    UNPRICED,
)


def drawn(snapshot: Snapshot, width: int, height: int = 24) -> list[str]:
    """Render one frame as a terminal of this size shows it, colours removed."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, height=height, color_system="truecolor")
    console.print(Frame(snapshot))
    return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()


@pytest.mark.parametrize("width", [60, 80, 140])
def test_every_figure_is_visible_at_every_width(width: int) -> None:
    screen = drawn(BUSY, width)
    for text in (
        "20.6%", "rows 12,345/60,000 (20.6%)", "failed 3", "1,234 rows/s", "ETA 0:38",
        "in flight 127/128", "elapsed 0:10", "requests 12,490", "retries 12", "rate_limited 4", "server_error 11",
        "tokens 1.2M in, 400k out", "shards 24 sealed, 20 merged",
        "worker 0", "pid 4242", "in flight 64", "RSS 45 MiB", "CPU 93%", "worker 1", "pid 4243", "CPU 100%",
    ):  # fmt: skip
        assert any(text in line for line in screen), f"{text!r} is not whole on one line of {screen}"


@pytest.mark.parametrize("width", [60, 80, 140])
@pytest.mark.parametrize(
    "snapshot",
    [BUSY, LONG_WAIT, COUNTING, HUGE, SEVERAL, HINDERED, COSTLY, UNPRICED, BATCHING, MANY_BATCHES, STEPS],
    ids=[
        "busy",
        "waiting",
        "counting",
        "huge",
        "several",
        "hindered",
        "costly",
        "unpriced",
        "batches",
        "many",
        "steps",
    ],
)
def test_no_line_is_wider_than_the_terminal_or_cut_short(snapshot: Snapshot, width: int) -> None:
    screen = drawn(snapshot, width)
    assert max(len(line) for line in screen) <= width
    assert not any("…" in line for line in screen)


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_first_of_many_steps_say_how_far_they_are_and_leave_room_for_the_workers(width: int) -> None:
    screen = drawn(STEPS, width)
    for text in ("step step-0 9,000 (12 failed)", "step step-2xxxxxxxxx... 9,000 (12 failed, 8,000 left out)"):
        assert any(text in line for line in screen), f"{text!r} is not whole on one line of {screen}"
    assert any("and 26 more" in line for line in screen)
    assert any("worker 1" in line for line in screen)
    assert not any("step " in line for line in drawn(BUSY, width))


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_cost_has_a_line_where_there_is_one(width: int) -> None:
    screen = drawn(COSTLY, width)
    assert "cost $1.23 of $5.00  about $3.10 in all" in screen
    assert [line for line in screen if "cost" not in line] == drawn(BUSY, width)
    assert "budget 1.6M of 3.0M tokens  12,490 of 50,000 requests" in drawn(UNPRICED, width)


@pytest.mark.parametrize("width", [60, 80, 140])
def test_every_batch_has_its_figures_and_what_means_nothing_is_left_out(width: int) -> None:
    screen = drawn(BATCHING, width)
    for text in (
        "rows 12,345/60,000 (20.6%)", "elapsed 0:10", "batches 3 of 7 parts done", "validating 1",
        "in progress 2 (61%)", "collecting 1", "requests 92,734/170,000 completed, 12 failed",
        "cost $1.23 of $5.00", "$0.80 under way", "about $3.10 in all", "pid 4242",
    ):  # fmt: skip
        assert any(text in line for line in screen), f"{text!r} is not whole on one line of {screen}"
    assert [line.rstrip() for line in screen if line.startswith("part ")] == [
        "part 3  try 1  validating   0/50,000",
        "part 4  try 1  in progress  41,234/50,000  failed 12",
        "part 5  try 2  in progress  1,500/20,000",
        "part 6  try 1  collecting   50,000/50,000",
    ]
    assert not any(text in line for line in screen for text in ("in flight", "rows/s", "ETA"))


def test_the_time_left_is_told_when_all_that_is_left_is_collected() -> None:
    state = msgspec.structs.replace(BATCHING, batches=BATCHES[3:], eta_s=38.2)
    assert any("ETA 0:38" in line for line in drawn(state, 80))


@pytest.mark.parametrize(("height", "shown"), [(60, 8), (20, 5)])
def test_many_batches_are_summed_up_and_leave_room_for_the_workers(height: int, shown: int) -> None:
    screen = drawn(MANY_BATCHES, 80, height)
    assert len(screen) < height
    assert sum(line.startswith("part ") for line in screen) == shown
    assert f"{40 - shown} more  requests {sum(range(shown, 40))}/{50_000 * (40 - shown):,}" in screen
    assert any("pid 4242" in line for line in screen)


def test_a_run_by_batches_that_stops_says_that_they_go_on() -> None:
    state = msgspec.structs.replace(BATCHING, draining=True)
    assert any("draining: batches go on at the provider" in line for line in drawn(state, 80))


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_long_retry_after_is_visible_with_the_time_of_the_next_try(width: int) -> None:
    assert any("waiting 12, next in 9m58s" in line for line in drawn(LONG_WAIT, width))
    assert not any("waiting" in line for line in drawn(BUSY, width))


def test_an_input_that_is_still_being_counted_has_no_percentage_and_no_eta() -> None:
    screen = "\n".join(drawn(COUNTING, 80))
    assert "rows 12,345 (counting)" in screen
    assert "ETA -" in screen
    assert "20.6%" not in screen


def test_the_bar_shows_done_and_failed_and_never_looks_full_before_the_end() -> None:
    def bar(rows: int, failed: int) -> str:
        state = msgspec.structs.replace(BUSY, total_rows=1_000_000, totals=Totals(rows=rows, failed=failed))
        stream = io.StringIO()
        Console(file=stream, force_terminal=True, width=80, color_system="standard").print(Frame(state))
        return stream.getvalue().splitlines()[0]

    assert "\x1b[31m" not in bar(500_000, 0)
    assert "\x1b[31m━\x1b[0m" in bar(500_000, 1), "one failed row among many still shows"
    assert "─" in bar(999_999, 0)
    assert "99.9%" in bar(999_999, 0)
    assert "─" not in bar(1_000_000, 0)
    assert "100.0%" in bar(1_000_000, 0)


def test_an_empty_input_is_drawn() -> None:
    empty = msgspec.structs.replace(BUSY, total_rows=0, totals=Totals(), workers=())
    assert any("rows 0/0" in line for line in drawn(empty, 80))
    assert "rows 0/0" in progress_line(empty)


def test_a_run_that_is_about_to_stop_promises_nothing_that_will_not_come() -> None:
    waiting = msgspec.structs.replace(BUSY, waiting=12, next_due_s=3.0)
    assert shows(waiting, "ETA 0:38")
    assert shows(waiting, "waiting 12")
    draining = msgspec.structs.replace(waiting, draining=True)
    assert shows(draining, "ETA -")
    assert not shows(draining, "waiting 12")


def shows(snapshot: Snapshot, text: str) -> bool:
    return any(text in line for line in [*drawn(snapshot, 100), progress_line(snapshot)])


def test_deaths_and_draining_are_visible_only_when_they_happened() -> None:
    state = msgspec.structs.replace(BUSY, deaths=2, draining=True)
    for text in ("worker deaths 2", "draining"):
        assert any(text in line for line in drawn(state, 60))
        assert not any(text in line for line in drawn(BUSY, 60))


def test_more_workers_than_lines_are_summed_up_and_the_display_fits_the_terminal() -> None:
    many = tuple(
        WorkerView(number=n, pid=1000 + n, state="working", in_flight=10, rss_bytes=2**30, cpu_share=0.5)
        for n in range(256)
    )
    screen = drawn(msgspec.structs.replace(BUSY, workers=many), 80, height=20)
    assert len(screen) < 20
    shown = sum("pid" in line for line in screen)
    assert shown >= 2
    assert any(f"{256 - shown} more  in flight {10 * (256 - shown):,}" in line for line in screen)


def test_a_worker_that_is_not_working_says_so() -> None:
    starting = msgspec.structs.replace(BUSY.workers[0], state="starting")
    screen = drawn(msgspec.structs.replace(BUSY, workers=(starting, BUSY.workers[1])), 80)
    assert any("pid 4242" in line and "starting" in line for line in screen)
    assert not any("pid 4243" in line and "working" in line for line in screen)


def test_one_provider_in_good_order_adds_nothing_to_the_display() -> None:
    assert drawn(SINGLE, 80) == drawn(BUSY, 80)


@pytest.mark.parametrize("width", [60, 80, 140])
def test_one_provider_that_holds_the_run_back_says_so_with_the_time_of_the_next_try(width: int) -> None:
    screen = drawn(HINDERED, width)
    assert "provider main: holding, next in 9m58s" in screen
    assert len([line for line in screen if "provider" in line]) == 1


@pytest.mark.parametrize("state", ["failing", "recovering", "closed"])
def test_one_provider_in_any_other_state_says_which(state: str) -> None:
    provider = msgspec.structs.replace(MAIN, state=state)
    assert f"provider main: {state}" in drawn(msgspec.structs.replace(BUSY, providers=(provider,)), 60)


@pytest.mark.parametrize("width", [60, 80, 140])
def test_each_of_several_providers_has_its_figures(width: int) -> None:
    screen = drawn(SEVERAL, width)
    for text in (
        "provider main", "holding", "in flight 0/128", "requests 12,490", "answered 98.2%", "limit 1,000/s",
        "held 9m58s", "provider spare", "open", "in flight 27/64", "requests 27", "answered -", "limit 1.5k tokens/s",
    ):  # fmt: skip
        assert any(text in line for line in screen), f"{text!r} is not whole on one line of {screen}"


def test_what_goes_on_of_a_line_is_set_in() -> None:
    screen = [line.rstrip() for line in drawn(SEVERAL, 60)]
    at = next(place for place, line in enumerate(screen) if line.startswith("provider main"))
    assert screen[at : at + 2] == [
        "provider main   holding  in flight 0/128  requests 12,490",
        "  answered 98.2%  limit 1,000/s  held 9m58s",
    ]


def test_several_providers_stand_in_columns_where_there_is_room() -> None:
    screen = [line.rstrip() for line in drawn(SEVERAL, 140) if line.startswith("provider")]
    assert screen == [
        "provider main   holding  in flight 0/128  requests 12,490  answered 98.2%  limit 1,000/s  held 9m58s",
        "provider spare  open     in flight 27/64  requests 27      answered -      limit 1.5k tokens/s",
    ]


def test_more_providers_than_lines_are_summed_up_and_those_in_trouble_stay() -> None:
    many = tuple(msgspec.structs.replace(SPARE, name=f"p{n}") for n in range(40))
    screen = drawn(msgspec.structs.replace(BUSY, providers=(*many, HOLDING)), 140, height=24)
    assert len(screen) < 24
    assert any("provider main" in line and "holding" in line for line in screen)
    shown = sum(line.startswith("provider") for line in screen)
    assert shown >= 2
    assert any(f"{41 - shown} more  in flight {27 * (41 - shown)}/" in line for line in screen)
    assert any("pid 4242" in line for line in screen)


def test_notices_are_visible_whole_and_yellow() -> None:
    for text in HINDERED.notices:
        assert text in drawn(HINDERED, 60)
    stream = io.StringIO()
    Console(file=stream, force_terminal=True, width=80, color_system="standard").print(Frame(HINDERED))
    assert "\x1b[33mdisk nearly full, paused\x1b[0m" in stream.getvalue()


def test_a_notice_that_is_longer_than_the_terminal_is_wide_goes_on_in_the_next_line() -> None:
    notice = "disk nearly full: 12 MiB left where the run directory is, admission is paused until there is more"
    screen = drawn(msgspec.structs.replace(BUSY, notices=(notice,)), 60)
    assert notice in " ".join(line.strip() for line in screen)


def test_many_notices_do_not_push_the_figures_off_the_screen() -> None:
    screen = drawn(msgspec.structs.replace(BUSY, notices=tuple(f"notice {n}" for n in range(50))), 80, height=20)
    assert len(screen) < 20
    assert "and more" in screen
    assert any("pid 4243" in line for line in screen)


def test_a_worker_whose_loop_is_late_says_how_late() -> None:
    late = msgspec.structs.replace(BUSY.workers[0], lag_ms=120.4)
    fine = msgspec.structs.replace(BUSY.workers[1], lag_ms=50.0)
    screen = drawn(msgspec.structs.replace(BUSY, workers=(late, fine)), 80)
    assert any("pid 4242" in line and "lag 120 ms" in line for line in screen)
    assert not any("pid 4243" in line and "lag" in line for line in screen)
    many = msgspec.structs.replace(BUSY, workers=(*[fine] * 60, late))
    assert any("lag up to 120 ms" in line for line in drawn(many, 80))


def test_a_provider_or_a_notice_or_a_batch_cannot_steer_the_terminal() -> None:
    evil = "no\x1b[2Jte\r\nnext"
    named = msgspec.structs.replace(HOLDING, name=evil)
    stated = BatchView(0, 1, evil, evil, 1, 0, 0)
    for providers in ((named,), (named, SPARE)):
        state = msgspec.structs.replace(BATCHING, providers=providers, notices=(evil,), batches=(stated,))
        assert not any("\x1b[2J" in line or "\r" in line for line in drawn(state, 80))
        assert progress_line(state).isprintable()


counts = st.integers(0, 10**12)
spans = st.floats(0, 10**7)
states = st.sampled_from(["open", "holding", "failing", "recovering", "closed"])
providers = st.builds(
    ProviderView,
    name=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    state=states,
    in_flight=counts,
    allowed=counts,
    requests=counts,
    answered=counts,
    requests_per_s=st.none() | st.floats(0, 10**9),
    tokens_per_s=st.none() | st.floats(0, 10**12),
    held_s=st.none() | spans,
)
workers = st.builds(
    WorkerView,
    number=st.integers(0, 999),
    pid=st.integers(1, 2**22),
    state=st.sampled_from(["starting", "working", "draining", "gone"]),
    in_flight=st.integers(0, 10**6),
    rss_bytes=counts,
    cpu_share=st.floats(0, 2),
    lag_ms=spans,
)
dollars = st.none() | st.floats(0, 10**9)
costs = st.builds(
    Cost,
    usd=dollars,
    tokens=counts,
    requests=counts,
    reserved_usd=st.floats(0, 10**9),
    projected_usd=dollars,
    max_usd=dollars,
    max_tokens=st.none() | st.floats(0, 10**12),
    max_requests=st.none() | st.floats(0, 10**9),
)
batches = st.builds(
    BatchView,
    part=st.integers(0, 9999),
    attempt=st.integers(1, 99),
    batch=st.text(),
    status=st.sampled_from(["waiting", "in_progress", "collecting"]) | st.text(max_size=40),
    requests=counts,
    completed=counts,
    failed=counts,
)
snapshots = st.builds(
    msgspec.structs.replace,
    st.sampled_from([BUSY, LONG_WAIT, COUNTING, HUGE]),
    providers=st.lists(providers, max_size=12).map(tuple),
    workers=st.lists(workers, max_size=40).map(tuple),
    notices=st.lists(st.text(max_size=200), max_size=8).map(tuple),
    cost=st.none() | costs,
    batches=st.lists(batches, max_size=20).map(tuple),
    parts=st.none() | st.tuples(counts, counts),
)


@settings(deadline=None, max_examples=100)
@given(snapshot=snapshots, width=st.integers(1, 240), height=st.integers(1, 80))
def test_any_state_can_be_drawn_on_any_terminal(snapshot: Snapshot, width: int, height: int) -> None:
    screen = drawn(snapshot, width, height)
    assert max(cell_len(line) for line in screen) <= width
    assert progress_line(snapshot).isprintable()


@settings(deadline=None, max_examples=100)
@given(snapshot=snapshots, width=st.integers(80, 240), height=st.integers(30, 80))
def test_the_display_is_never_as_high_as_the_terminal(snapshot: Snapshot, width: int, height: int) -> None:
    assert len(drawn(snapshot, width, height)) < height


def test_a_terminal_without_unicode_gets_a_plain_bar() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Console(file=stream, force_terminal=True, width=80).print(Frame(msgspec.structs.replace(BUSY, deaths=1)))
    stream.flush()
    assert raw.getvalue().isascii()
    assert b"#" in raw.getvalue()


def test_a_terminal_that_went_away_silences_the_display_and_not_the_run() -> None:
    reading, writing = pty.openpty()
    stream = os.fdopen(writing, "w", encoding="utf-8")
    progress = LiveProgress(terminal(stream))
    progress.show(BUSY)
    os.close(reading)
    progress.show(BUSY)
    progress.log("nobody reads this")
    progress.close()
    with contextlib.suppress(OSError):  # what could not be written is still in the stream's buffer
        stream.close()


def test_what_a_narrower_terminal_has_wrapped_is_taken_away_too() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=100, height=30)
    progress = LiveProgress(console)

    def lines_up(width: int) -> int:
        written.seek(0)
        written.truncate()
        console.width = width
        progress.show(BUSY)
        return written.getvalue().count("\x1b[1A")

    lines_up(100)
    drawn = lines_up(100)
    assert lines_up(40) > drawn
    narrow = lines_up(40)
    assert lines_up(100) == narrow, "wider lines were not wrapped"
    assert lines_up(100) == drawn
    progress.close()
