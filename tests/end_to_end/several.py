"""What the tests of limits, outages and providers share: several providers, sick ones, and what a run says."""

import json
import os
import select
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import psutil

from tests.end_to_end.conftest import PROMPT, Arrival, Done, Place, Started, Witness, until

Answer = tuple[int, dict[str, str], bytes]  # status, headers, body: what a `Server` is told to say

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has no way to our loopback


def error(message: str, kind: str, code: str | None = None) -> bytes:
    """Return an error's body in OpenAI's shape."""
    return json.dumps({"error": {"message": message, "type": kind, "code": code, "param": None}}).encode()


# The simulator and its providers


def _root(witness: Witness) -> str:
    return witness.url.removesuffix("/v1")


def url_of(witness: Witness, provider: str) -> str:
    """Return the base URL of one of the simulator's providers."""
    return f"{_root(witness)}/{provider}/v1"


def stats_of(witness: Witness, provider: str) -> dict[str, Any]:
    """Ask what one of its providers has seen."""
    with _direct.open(f"{_root(witness)}/stats", timeout=10) as reply:
        figures: dict[str, Any] = json.load(reply)["providers"][provider]
    return figures


def fail(witness: Witness, provider: str, fault: str | None, seconds: float | None = None) -> None:
    """Let every request to one provider fail for so long; without a time, until it is called with the fault None."""
    body = json.dumps({"fault": fault, "seconds": seconds}).encode()
    with _direct.open(f"{_root(witness)}/providers/{provider}/fault", body, timeout=10):
        pass


# The command


def configure(place: Place, providers: Iterable[Mapping[str, Any]], **sections: Mapping[str, Any]) -> None:
    """Write a configuration with these `[[provider]]` tables; the sections add to the usual ones."""
    usual: dict[str, dict[str, Any]] = {
        "input": {"path": "in.jsonl", "id": "id"},
        "task": {"model": "sim-small", "prompt": PROMPT},
        "output": {"path": "out.jsonl"},
        "workers": {"count": 2, "concurrency": 16},
        "checkpoint": {"commit_ms": 20},
    }
    for name, keys in sections.items():
        usual[name] = {**usual.get(name, {}), **keys}
    tables = [(f"[{name}]", keys) for name, keys in usual.items()]
    tables += [("[[provider]]", {"timeout_s": 5, **provider}) for provider in providers]
    lines = [line for head, keys in tables for line in (head, *(f"{key} = {_toml(keys[key])}" for key in keys))]
    (place.folder / "config.toml").write_text("\n".join(lines) + "\n")


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)


def heard(started: Started, text: str, seconds: float = 20.0) -> str:
    """Read the command's stderr until the text is in it; return all of it so far. What is read here is gone there."""
    stream = started.process.stderr
    assert stream is not None
    read = b""
    end = time.monotonic() + seconds
    while text.encode() not in read:
        ready, _, _ = select.select([stream], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"{text!r} was not said within {seconds:g} s, but:\n{read.decode()}"
        # Not by its own methods: they read ahead, and what they have read `Started.wait` would not see.
        more = os.read(stream.fileno(), 1 << 16)
        assert more, f"{text!r} was not said to the end, but:\n{read.decode()}"
        read += more
    return read.decode()


def typed(place: Place, line: str) -> subprocess.CompletedProcess[str]:
    """Run the command at the end of a line of advice in a shell, up to where words follow it."""
    command = line[line.rindex("rowmill ") :].partition(": asks")[0]
    rowmill = f'rowmill() {{ {shlex.quote(sys.executable)} -m rowmill "$@"; }}; '
    return subprocess.run(
        ["bash", "-c", rowmill + command],
        check=False, cwd=place.folder, env=place.environ, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def last_session(place: Place) -> dict[str, Any]:
    """Return the report of the session that ended last."""
    session: dict[str, Any] = place.report["sessions"][-1]
    return session


def no_secret(place: Place, done: Done, secret: str) -> None:
    """Hold that a secret stands in no file and in nothing that was said."""
    assert secret not in done.out + done.err
    for name, data in place.files().items():
        assert secret.encode() not in (data or b""), name


# Arrivals


def when_still(arrived: Callable[[], int]) -> int:
    """Return how many requests have arrived as soon as none came for 0.2 s: both workers have heard of the outage."""
    met, since = 0, time.monotonic()

    def still() -> bool:
        nonlocal met, since
        if (now := arrived()) != met:
            met, since = now, time.monotonic()
        return time.monotonic() - since >= 0.2

    until(still, "the workers to hear of the outage")
    return met


def ports_of(process: psutil.Process) -> set[int]:
    """Return the ports from which a process sends now."""
    return {each.laddr.port for each in process.net_connections("tcp") if each.raddr}


def most_above(arrivals: Iterable[Arrival], per_s: float) -> float:
    """Return by how many requests at most any stretch of time was above this rate: the burst that it takes.

    The bucket's arithmetic, run over what arrived: its deepest debt, at the best of all starting moments.
    """
    deepest = level = 0.0
    before: float | None = None
    for at in sorted(each.at for each in arrivals):
        if before is not None:
            level = max(0.0, level - (at - before) * per_s)
        before = at
        level += 1
        deepest = max(deepest, level)
    return deepest


def per_s(arrivals: Iterable[Arrival], start: float, end: float) -> float:
    """Return how many came a second between two moments."""
    return sum(start <= each.at < end for each in arrivals) / (end - start)
