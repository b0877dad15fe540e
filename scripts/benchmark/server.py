"""The static server that all ways are measured against: nginx with one fixed reply, or else the simulator."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from scripts.ports import kept_port

REPLY_BYTES = 700
BOOT_S = 20.0  # the simulator imports its server library first; nginx takes a few milliseconds


class ServerError(Exception):
    """The server did not start. The text holds what it wrote."""


class Server(NamedTuple):
    """A running server."""

    name: str
    url: str  # up to and with "/v1"


@contextlib.contextmanager
def serve(folder: Path, core: int) -> Iterator[Server]:
    """Run the server on one core, with its files in `folder`, until the block ends."""
    port = kept_port()
    nginx = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"]))
    if nginx:
        name = "nginx"
        command = [nginx, "-p", str(folder), "-c", str(write_nginx_config(folder, port))]
    else:
        name = "simulator"
        print(
            "bench: nginx is not installed: the simulator answers instead. A reply costs it more than nginx, so the\n"
            "       rows/s of the fast ways may show its limit. Compare CPU per row, or install nginx.",
            file=sys.stderr,
        )
        rowmill = Path(sys.executable).with_name("rowmill")
        command = [str(rowmill), "simulate", "--port", str(port), "--latency-ms", "0"]
    with running(command, folder / "server.log", core) as process:
        url = f"http://127.0.0.1:{port}/v1"
        wait_until_it_answers(process, url, folder / "server.log")
        yield Server(name, url)


@contextlib.contextmanager
def running(command: Sequence[str], log: Path, core: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server pinned to a core; end it with the block, however that ends."""
    with log.open("wb") as output, pinned(core):
        # Its own process group: Ctrl-C ends the benchmark, and the benchmark ends the server.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Pin this process to a core; what it starts meanwhile inherits that, threads and children included."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def chat_reply(size: int) -> str:
    """Return a chat completion as JSON, `size` bytes long, as OpenAI's API words it."""
    reply = {
        "id": "chatcmpl-123456789012345678901234",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "bench-model-2026-01-01",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "", "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 120,
            "completion_tokens": 48,
            "total_tokens": 168,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
    }
    text = json.dumps(reply, separators=(",", ":"))
    sentence = "This package provides the shared libraries that are needed to run programs built with it. "
    content = (sentence * (size // len(sentence) + 1))[: size - len(text)]
    return text.replace('"content":""', f'"content":"{content}"')


def write_nginx_config(folder: Path, port: int) -> Path:
    """Write a configuration that keeps everything inside `folder`. Returns its path."""
    # One process: nothing to hand over, one pid to pin and to end, and it runs as the user who started it.
    config = folder / "nginx.conf"
    temporary = "\n".join(
        f'    {kind}_temp_path "{folder}/{kind}";' for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config.write_text(
        f"""daemon off;
master_process off;
pid "{folder}/nginx.pid";
error_log "{folder}/nginx.log";
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    client_max_body_size 64m;
    client_body_buffer_size 1m;
{temporary}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            default_type application/json;
            if ($request_method = POST) {{ return 200 '{chat_reply(REPLY_BYTES)}'; }}
            return 405;
        }}
    }}
}}
"""
    )
    return config


def wait_until_it_answers(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Return once a chat request is answered with 200. Raises `ServerError` when that does not happen in time."""
    body = json.dumps({"model": "bench", "messages": [{"role": "user", "content": "ready?"}]}).encode()
    request = urllib.request.Request(  # noqa: S310 - our own loopback address
        f"{url}/chat/completions", body, {"content-type": "application/json"}
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has no way to our loopback
    end = time.monotonic() + BOOT_S
    while process.poll() is None and time.monotonic() < end:
        try:
            with direct.open(request, timeout=5) as reply:
                reply.read()
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.02)
    raise ServerError(f"the server does not answer: {log.read_text(errors='replace').strip()[-2000:]}")
