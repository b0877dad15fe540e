"""The static server that the ways of a load are measured against: nginx with one fixed reply, or else our own."""

import contextlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from scripts.benchmark import answering
from scripts.benchmark.loads import PLAIN, Load
from scripts.ports import kept_port

BOOT_S = 20.0  # our own server imports its loop first; nginx takes a few milliseconds
HOST = "127.0.0.1"


class ServerError(Exception):
    """The server did not start. The text holds what it wrote."""


class NotInstalledError(Exception):
    """What would be measured, or is needed for it, is not on this machine. The text says what, and how to get it."""


class Server(NamedTuple):
    """A running server."""

    name: str
    url: str  # up to and with "/v1"
    load: Load
    authority: Path | None  # with TLS: the certificate that its own is trusted by

    def most_in_flight(self) -> int | None:
        """Return the most requests that were in flight since this was asked last; None where it does not know."""
        if self.name != OWN:
            return None
        with opener(self.authority).open(self.url, timeout=5) as reply:
            return int(reply.read())


NGINX, OWN = "nginx", "own server"


@contextlib.contextmanager
def serve(folder: Path, core: int, load: Load = PLAIN) -> Iterator[Server]:
    """Run the server of a load on one core, with its files in `folder`, until the block ends."""
    port = kept_port()
    certificate, authority = write_certificate(folder) if load.tls else (None, None)
    reply = chat_reply(load.reply_bytes)
    nginx = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"]))
    if nginx and not load.delay_ms:
        name = NGINX
        command = [nginx, "-p", str(folder), "-c", str(write_nginx_config(folder, port, reply, certificate))]
    else:
        name = OWN
        (folder / "reply").write_text(reply)
        command = [sys.executable, answering.__file__, "--port", str(port), "--reply", str(folder / "reply")]
        command += ["--delay-ms", str(load.delay_ms), *(["--certificate", str(certificate)] if certificate else [])]
    with running(command, folder / "server.log", core) as process:
        url = f"http{'s' if load.tls else ''}://{HOST}:{port}/v1"
        wait_until_it_answers(process, url, folder / "server.log", authority)
        yield Server(name, url, load, authority)


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


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate of the loopback address, with its key, and an authority for it; returns both as PEM files."""
    try:
        import trustme
    except ModuleNotFoundError:
        raise NotInstalledError("trustme, which makes the certificate, is not installed: scripts/setup dev") from None
    authority = trustme.CA()
    own, trusted = folder / "server.pem", folder / "authority.pem"
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(own)
    authority.cert_pem.write_to_path(trusted)
    return own, trusted


def write_nginx_config(folder: Path, port: int, reply: str, certificate: Path | None) -> Path:
    """Write a configuration that keeps everything inside `folder`. Returns its path."""
    tls = f'ssl_certificate "{certificate}"; ssl_certificate_key "{certificate}";' if certificate else ""
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
        listen {HOST}:{port}{" ssl" if certificate else ""} backlog=4096;
        {tls}
        default_type application/json;
        location = /v1/models {{ return 200 '{{"object":"list","data":[]}}'; }}
        location / {{
            if ($request_method = POST) {{ return 200 '{reply}'; }}
            return 405;
        }}
    }}
}}
"""
    )
    return config


def opener(authority: Path | None) -> urllib.request.OpenerDirector:
    """Return what asks a server on loopback: by no proxy, which has no way there."""
    context = ssl.create_default_context(cafile=authority) if authority else None
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))


def wait_until_it_answers(process: subprocess.Popen[bytes], url: str, log: Path, authority: Path | None) -> None:
    """Return once a chat request is answered with 200. Raises `ServerError` when that does not happen in time."""
    body = json.dumps({"model": "bench", "messages": [{"role": "user", "content": "ready?"}]}).encode()
    request = urllib.request.Request(  # noqa: S310 - our own loopback address
        f"{url}/chat/completions", body, {"content-type": "application/json"}
    )
    direct = opener(authority)
    end = time.monotonic() + BOOT_S
    while process.poll() is None and time.monotonic() < end:
        try:
            with direct.open(request, timeout=5) as reply:
                reply.read()
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.02)
    raise ServerError(f"the server does not answer: {log.read_text(errors='replace').strip()[-2000:]}")
