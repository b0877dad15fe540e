"""The child process: ready, the same in every process, and gone when its parent is."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import uvloop

import rowmill
from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator.process import SimulatorError, SimulatorProcess

if TYPE_CHECKING:
    from tests.simulator.conftest import Answer, Ask

BODY = b'{"model":"sim-small","messages":[{"role":"user","content":"What is a row?"}]}'
PARENT = """
import time
from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator.process import SimulatorProcess
simulator = SimulatorProcess(SimulatorSettings(script=("hang",)))
simulator.start()
print(simulator.wait_ready(), simulator.pid, flush=True)
time.sleep(600)
"""


def test_two_processes_answer_the_same_bytes(ask: "Ask") -> None:
    simulators = [SimulatorProcess(SimulatorSettings(latency_ms=0, seed=seed)) for seed in (1, 2)]
    for simulator in simulators:
        simulator.start()
    try:
        ports = [simulator.wait_ready() for simulator in simulators]
        assert simulators[0].base_url == f"http://127.0.0.1:{ports[0]}/v1"

        async def exchange() -> "list[Answer]":
            return [await ask(port, body=BODY) for port in ports]

        one, other = uvloop.run(exchange())
        assert one.status == 200
        assert one.body == other.body
        os.kill(simulators[0].pid or 0, signal.SIGINT)  # as a Ctrl-C on the terminal does to the whole group
        assert uvloop.run(exchange())[0].status == 200
    finally:
        for simulator in simulators:
            simulator.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ports[0]))
    assert not psutil.pid_exists(simulators[0].pid or 0)
    simulators[0].stop()  # again: nothing happens


def test_a_child_that_cannot_listen_says_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        simulator = SimulatorProcess(SimulatorSettings(), port=taken.getsockname()[1])
        simulator.start()
        try:
            with pytest.raises(SimulatorError, match="in use"):
                simulator.wait_ready()
        finally:
            simulator.stop()


def test_a_child_that_dies_early_is_no_endless_wait() -> None:
    simulator = SimulatorProcess(SimulatorSettings())
    simulator.start()
    os.kill(simulator.pid or 0, signal.SIGKILL)
    with pytest.raises(SimulatorError, match="ended before"):
        simulator.wait_ready()
    simulator.stop()


def test_wrong_settings_are_refused_without_a_process() -> None:
    with pytest.raises(ValueError, match="did you mean 'reset'"):
        SimulatorProcess(SimulatorSettings(faults={"resett": 0.1}))
    with pytest.raises(ValueError, match="above 0"):
        SimulatorProcess(SimulatorSettings(requests_per_minute=0))


def test_the_url_is_not_known_before_it_is_ready() -> None:
    with pytest.raises(SimulatorError, match="wait_ready"):
        _ = SimulatorProcess(SimulatorSettings()).base_url


def test_a_child_ends_with_its_killed_parent_even_while_a_request_hangs() -> None:
    root = Path(rowmill.__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}
    ) as parent:
        assert parent.stdout is not None
        port, pid = map(int, parent.stdout.readline().split())
        child = psutil.Process(pid)
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\n")
            client.sendall(f"Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY)
            parent.kill()
            client.settimeout(10)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
    _wait_gone(child)


def _wait_gone(child: psutil.Process) -> None:
    # An orphan goes to init, which in a container may never collect it: a zombie runs no more.
    deadline = time.monotonic() + 10
    with suppress(psutil.NoSuchProcess):
        while child.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, "the child outlived its parent"
            time.sleep(0.01)


def test_the_parent_imports_no_server() -> None:
    root = Path(rowmill.__file__).parents[1]
    code = "import sys, rowmill.simulator.process; print(any(name in sys.modules for name in ('aiohttp', 'uvloop')))"
    told = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True, text=True)
    assert told.stdout == "False\n"
