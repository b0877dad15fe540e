"""What supervisor and workers say to each other: it arrives as it was sent, stays small, and does not show the key."""

import json
import multiprocessing
import socket
import struct
from math import inf
from multiprocessing.connection import Connection

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core import config as configuration
from rowmill.core.amounts import Amount, Price, Spent
from rowmill.core.counts import BatchView, Counters, ProviderReport, Totals
from rowmill.core.errors import ExitCode
from rowmill.core.leases import Lease, LimitSample, Share
from rowmill.core.rows import Column, InputPart, Layout, Shard
from rowmill.core.wire import Endpoint
from rowmill.ipc import messages
from rowmill.ipc.messages import (
    Allow,
    Assign,
    BatchHeartbeat,
    Closed,
    Drain,
    HandedOver,
    Heartbeat,
    Leased,
    Leases,
    NoMore,
    Note,
    RateLimited,
    Ready,
    Recall,
    Setup,
    ShardLeft,
    ShardSealed,
    Short,
    Stop,
    ToSupervisor,
    ToWorker,
    Tripped,
    Want,
)
from rowmill.transport.faults import TABLE

SECRET = "sk-very-secret"
SHARD = Shard(7, 140_000, 20_000, 123_456_789_012, 123_465_177_620, 0xFFFFFFFF)
FAR = 2**53  # no figure of a run comes near it
SPENT = Spent(FAR, FAR, FAR, FAR)
AMOUNT = Amount(123456789.125, 1e15 + 0.5, 12345.678901234567)
UNLIMITED = Amount(inf, inf, 0.1 + 0.2)  # as an allowance is where only dollars are limited
TOTALS = Totals(rows=FAR, failed=FAR, prompt_tokens=FAR, completion_tokens=FAR, requests=FAR)
ENDPOINT = Endpoint(
    "main",
    "https://api.example.com/v1?version=1",
    SECRET,
    openai_account=False,
    timeout_s=12.5,
    url="https://api.example.com/v1/chat/completions",
    headers=(("authorization", f"Bearer {SECRET}"), ("accept", "application/json")),
)
CONFIG = configuration.parse(
    {
        "input": {"path": "in.jsonl", "id": "é"},
        "task": {
            "model": "m",
            "prompt": "Say {text}\0",
            "params": {"a": [1, 2.5, None, {"b": "\ud7ff"}], "big": 2**64 - 1},
        },
        "output": {"path": "out.jsonl", "include": ["input", "meta"]},
        "provider": [{"base_url": "http://127.0.0.1:1/v1", "requests_per_minute": 0.5}],
        "workers": {"count": "auto", "concurrency": 16384},
        "simulator": {"faults": {"500": 0.5}, "script": ["ok", "429"]},
    },
    "test",
)
SETUP = Setup(
    worker=3,
    config=CONFIG,
    parts=[InputPart("in.jsonl", "lines"), InputPart("more.parquet", "parquet")],
    layout=Layout(input_columns=(Column("n", "int64"),), fields=(Column("label"),), vectors=False),
    endpoints=[ENDPOINT, Endpoint("spare", "http://127.0.0.1:1/v1", None, openai_account=False, timeout_s=600.0)],
    slots=16384,
    workers=256,
    run_dir="/somewhere/out.jsonl.run",
    supervisor=4711,
    incarnation=12,
    claimant=40,
    salvage=True,
    retry_failed=True,
    prices=[Price(0.15, 0.6, 0.075, 0.5), None],
    capped=True,
    left=UNLIMITED,
    run="0123456789ab",
    until=1_800_000_000.5,
)
PROVIDERS = 16  # more than anybody has had at a time
LIMIT = LimitSample(float(FAR), float(FAR), 86400.5)
REPORT = ProviderReport(
    requests=FAR,
    answered=FAR,
    limited=FAR,
    lost=FAR,
    unhealthy=FAR,
    retries=FAR,
    tokens=FAR,
    prompt_tokens=FAR,
    completion_tokens=FAR,
    cached_tokens=FAR,
    reply_s=123456789.125,
    wasted=SPENT,
    doubtful=SPENT,
    models={f"a-model-of-a-long-name-{number}-2024-08-06": SPENT for number in range(8)},
    odd_headers=FAR,
    odd_usage=FAR,
    early=FAR,
    lease=FAR,
    in_flight=16384,
    busy=0.123456789,
    wants_rate=True,
    wants_slots=True,
    largest=FAR,
    trouble="x" * 200,
    requests_limit=LIMIT,
    tokens_limit=LIMIT,
)
# The most a worker can have to say: every fault class counted, and as many open shards as it may have.
BEAT = Heartbeat(
    counters=Counters(FAR, FAR, FAR, FAR, FAR, dict.fromkeys(TABLE, FAR), FAR, FAR, FAR, FAR, FAR, SPENT),
    in_flight=16384,
    in_flight_max=16384,
    waiting=65536,
    next_due_s=599.123456789,
    rss_max=2**40,
    cpu_s=123456.789,
    shards=dict.fromkeys(range(999_900, 1_000_000), TOTALS),
    providers=[REPORT] * PROVIDERS,
    lag_ms=12345.6,
    retries_short=True,
    spent=AMOUNT,
    reserved=AMOUNT,
)
# Ten million rows: 200 parts under way at a time is what no provider takes.
BATCH_BEAT = BatchHeartbeat(
    batches=[BatchView(n, 2, f"batch_{n:032x}", "in_progress", 50_000, 49_999, 1) for n in range(200)],
    parts=200,
    collected=0,
    spent=SPENT,
    wasted=SPENT,
    reserved=AMOUNT,
)
# A lease with everything that it can hold, and the least one: no limit, nothing allowed.
FULL_LEASE = Lease(
    15,
    FAR,
    1234567.890625,
    16384,
    Share(1000.5, 250.125, -3.5),
    Share(1e9, 1e9, -1e9),
    largest=1e12,
    paused_until=1235167.890625,
    closed=True,
    failing=True,
)
LEASES = Leases([FULL_LEASE] * PROVIDERS)
# As many suspects as a pool of ordinary size can have had in flight at two deaths.
ASSIGN = Assign(SHARD, tuple(range(140_000, 144_096)), tuple(range(150_000, 150_064)))

TO_WORKER: list[ToWorker] = [
    SETUP,
    Assign(SHARD),
    ASSIGN,
    LEASES,
    Leases([Lease(0, 1, 3.0, 0)]),
    Allow(AMOUNT),
    Allow(UNLIMITED),
    Recall(),
    NoMore(),
    Drain(0.0),
    Drain(30.5),
]
TO_SUPERVISOR: list[ToSupervisor] = [
    Ready(),
    Want(),
    Leased(15, FAR, (-3.5, 1e9)),
    RateLimited(0, 600.0, slow_down=False),
    RateLimited(1, None, slow_down=True),
    Tripped(0, "server_error (HTTP 503): é"),
    Closed(15, "auth (HTTP 401): no such key"),
    BEAT,
    Short(AMOUNT, Amount(1.0, 0.1, 1e-7)),
    Short(Amount(), Amount()),
    BATCH_BEAT,
    HandedOver("the deadline is near"),
    ShardSealed(7, TOTALS),
    ShardLeft(7, TOTALS),
    Note("cut 12 bytes of a torn group: \0é"),
    Stop(ExitCode.PROVIDER, "no credit"),
]


@pytest.fixture
def pipe() -> "tuple[Connection, Connection]":
    return multiprocessing.Pipe(duplex=True)


@pytest.mark.parametrize("message", TO_WORKER, ids=lambda message: type(message).__name__)
def test_a_worker_gets_what_was_sent(pipe: tuple[Connection, Connection], message: ToWorker) -> None:
    ours, theirs = pipe
    assert messages.send(ours, message)
    assert messages.receive_in_worker(theirs) == message


@pytest.mark.parametrize("message", TO_SUPERVISOR, ids=lambda message: type(message).__name__)
def test_the_supervisor_gets_what_was_sent(pipe: tuple[Connection, Connection], message: ToSupervisor) -> None:
    ours, theirs = pipe
    assert messages.send(theirs, message)
    assert messages.receive_in_supervisor(ours) == message


@given(
    rows=st.sets(st.integers(0, 2**40), max_size=50),
    seconds=st.floats(0, 1e6),
    text=st.text(st.characters(exclude_categories=["Cs"])),
)
@settings(deadline=None)
def test_any_values_arrive(rows: set[int], seconds: float, text: str) -> None:
    ours, theirs = multiprocessing.Pipe(duplex=True)
    with ours, theirs:
        leases = Leases([Lease(0, 1, seconds, len(rows), Share(seconds, seconds, -seconds), None, seconds)])
        for message in (Assign(SHARD, tuple(rows), tuple(rows)), Drain(seconds), leases):
            messages.send(ours, message)
            assert messages.receive_in_worker(theirs) == message
        for word in (
            Note(text),
            Closed(0, text),
            RateLimited(0, seconds, slow_down=False),
            Leased(0, 1, (seconds, -seconds)),
        ):
            messages.send(theirs, word)
            assert messages.receive_in_supervisor(ours) == word


def test_several_messages_keep_their_order(pipe: tuple[Connection, Connection]) -> None:
    ours, theirs = pipe
    for message in TO_SUPERVISOR:
        messages.send(theirs, message)
    assert [messages.receive_in_supervisor(ours) for _ in TO_SUPERVISOR] == TO_SUPERVISOR


@pytest.mark.parametrize(
    "message", [BEAT, BATCH_BEAT, ASSIGN, SETUP, LEASES], ids=lambda message: type(message).__name__
)
def test_a_message_of_realistic_size_is_taken_whole_by_the_pipe(
    pipe: tuple[Connection, Connection], message: ToWorker | ToSupervisor
) -> None:
    """Neither side may have to wait for the other to read: that is how two processes hang each other."""
    ours, theirs = pipe
    messages.send(ours, message)
    assert len(theirs.recv_bytes()) < 64 << 10


def test_a_closed_pipe_is_told_and_not_raised(pipe: tuple[Connection, Connection]) -> None:
    ours, theirs = pipe
    theirs.close()
    assert not messages.send(ours, Drain(1.0))
    assert messages.receive_in_supervisor(ours) is None
    assert messages.receive_in_supervisor(ours) is None, "as often as one asks"


def test_what_was_said_before_the_end_is_still_heard(pipe: tuple[Connection, Connection]) -> None:
    ours, theirs = pipe
    messages.send(theirs, Note("last words"))
    theirs.close()
    assert messages.receive_in_supervisor(ours) == Note("last words")
    assert messages.receive_in_supervisor(ours) is None


@pytest.mark.parametrize("sent", [2, 4, 30])
def test_the_end_in_the_middle_of_a_message_is_an_end_like_any_other(
    pipe: tuple[Connection, Connection], sent: int
) -> None:
    """A worker can be killed while it writes."""
    ours, theirs = pipe
    frame = struct.pack("!i", 100) + b"x" * 100
    with socket.socket(fileno=theirs.fileno()) as end:
        end.sendall(frame[:sent])
        end.detach()
    theirs.close()
    assert messages.receive_in_supervisor(ours) is None


def test_the_pool_dies_with_unread_words_in_both_directions(pipe: tuple[Connection, Connection]) -> None:
    ours, theirs = pipe
    messages.send(ours, Drain(1.0))
    messages.send(theirs, Ready())
    theirs.close()  # with the Drain unread, the kernel answers the next read with a reset
    assert messages.receive_in_supervisor(ours) in (Ready(), None)
    assert messages.receive_in_supervisor(ours) is None


def test_no_message_shows_the_key() -> None:
    for shown in (repr(SETUP), str(SETUP), f"{SETUP}", repr(ENDPOINT), str(ENDPOINT), repr((SETUP, [ENDPOINT]))):
        assert SECRET not in shown
        assert "main" in shown
    assert SECRET not in json.dumps(configuration.fingerprint(CONFIG), default=repr)
    with pytest.raises(AttributeError) as error:
        SETUP.endpoints = [ENDPOINT]  # type: ignore[misc]  # that it cannot be set is the point
    assert SECRET not in str(error.value)


def test_what_is_no_message_is_a_defect(pipe: tuple[Connection, Connection]) -> None:
    ours, theirs = pipe
    theirs.send_bytes(msgspec.msgpack.encode({"type": "Surprise"}))
    with pytest.raises(msgspec.ValidationError):
        messages.receive_in_supervisor(ours)
