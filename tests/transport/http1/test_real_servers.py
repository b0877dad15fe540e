"""Servers and proxies that others wrote: nginx, uvicorn, tinyproxy and Squid, where they are installed."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from rowmill.core.wire import Failure, Reply
from scripts.ports import kept_port
from tests.transport.http1.talk import client, run, turn

HOST = "127.0.0.2"  # loopback, but not what goes without a proxy
REPLY = {"whole": "x" * 2_000}
APP = """
import asyncio
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    for start in range(0, len(body), 1000):
        await send({"type": "http.response.body", "body": body[start:start + 1000], "more_body": True})
    await send({"type": "http.response.body", "body": b""})
"""


def program(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@contextlib.contextmanager
def running(command: list[str], folder: Path, host: str, port: int) -> Iterator[None]:
    """Run a server until the block ends; it listens when that begins."""
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
                break
            assert process.poll() is None, (folder / "output").read_text()
            assert time.monotonic() < until
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, str]]:
    """Serve by nginx, which closes after a few requests; gives its plain and its TLS URL, and whom to trust."""
    binary = program("nginx")
    folder = tmp_path_factory.mktemp("nginx")
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(folder / "own.pem"))
    plain, tls = kept_port(HOST), kept_port(HOST)
    names = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{name}_temp_path {folder}/{name};" for name in names)
    (folder / "nginx.conf").write_text(f"""
        daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors; events {{ }}
        http {{
            access_log off; {temporary} keepalive_requests 7; client_max_body_size 1m;
            gzip on; gzip_types application/json; gzip_min_length 10; gzip_proxied any;
            server {{
                listen {HOST}:{plain}; listen {HOST}:{tls} ssl http2;
                ssl_certificate own.pem; ssl_certificate_key own.pem;
                location / {{ default_type application/json; return 200 '{json.dumps(REPLY)}'; }}
                location /taken/ {{ proxy_pass http://{HOST}:{plain}/; }}
            }}
        }}""")
    with running([binary, "-p", str(folder), "-c", str(folder / "nginx.conf")], folder, HOST, plain):
        yield f"http://{HOST}:{plain}/v1", f"https://{HOST}:{tls}/v1", authority.cert_pem.bytes().decode()


async def many(url: str, ca: str = "") -> None:
    """Send requests one after the other and at once; each is answered."""
    async with client(url, ca=ca) as transport:
        for _ in range(20):
            found = await transport.send(b"{}")
            assert isinstance(found, Reply), found
            assert json.loads(found.body) == REPLY
        found_all = await asyncio.gather(*(transport.send(b'{"a": 1}') for _ in range(200)))
        assert all(isinstance(each, Reply) and json.loads(each.body) == REPLY for each in found_all), found_all


def test_nginx_answers_every_request_though_it_closes_after_a_few(nginx: tuple[str, str, str]) -> None:
    plain, tls, ca = nginx
    run(many(plain))
    run(many(tls, ca))


def test_nginx_refuses_a_long_request_before_it_is_whole(nginx: tuple[str, str, str]) -> None:
    async def work(url: str, ca: str) -> None:
        async with client(url, ca=ca) as transport:
            for size in (2_000_000, 30_000_000):
                found = await transport.send(b"x" * size)
                assert isinstance(found, Reply), found
                assert found.status == 413
            assert isinstance(await transport.send(b"{}"), Reply)

    plain, tls, ca = nginx
    run(work(plain.replace("/v1", "/taken/v1"), ""))
    run(work(tls.replace("/v1", "/taken/v1"), ca))


def asked(url: str, ca: str) -> Reply | Failure:
    """Return what comes of one request, by way of the proxy that the environment names."""

    async def work() -> Reply | Failure:
        async with client(url, ca=ca) as transport:
            return await transport.send(b"{}")

    return run(work())


def assert_told_of(plain: Reply | Failure, tunnel: Reply | Failure, status: int) -> None:
    """Hold a proxy's refusal to be one, of a request that it reads as of one that goes through a tunnel."""
    assert isinstance(plain, Reply), plain
    assert plain.status == status
    assert isinstance(tunnel, Failure), tunnel
    assert (tunnel.fault.name, tunnel.part, tunnel.maybe_billed) == ("connection", "proxy", False)
    assert f"HTTP {status}" in tunnel.message


@pytest.mark.parametrize("login", ["", "me:secret@"])
def test_tinyproxy_is_gone_through(
    nginx: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, login: str
) -> None:
    binary = program("tinyproxy")
    port = kept_port()
    basic = "BasicAuth me secret\n" if login else ""
    (tmp_path / "conf").write_text(
        f"Port {port}\nListen 127.0.0.1\nTimeout 60\nAllow 127.0.0.1\nMaxClients 300\n{basic}"
    )
    plain, tls, ca = nginx
    with running([binary, "-d", "-c", str(tmp_path / "conf")], tmp_path, "127.0.0.1", port):
        monkeypatch.setenv("all_proxy", f"http://{login}127.0.0.1:{port}")
        run(many(tls, ca))
        run(many(plain))
        if login:
            monkeypatch.setenv("all_proxy", f"http://127.0.0.1:{port}")
            assert_told_of(asked(plain, ""), asked(tls, ca), 407)


def test_squid_is_gone_through_with_a_login_and_without_and_what_it_refuses_is_told(
    nginx: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = program("squid")
    free, asking = kept_port(), kept_port()
    # Who asks is told by sed: Squid gives its rights away, and can then read no file in here.
    (tmp_path / "conf").write_text(f"""
        auth_param basic program /bin/sed -u s/^me.secret$/OK/;t;s/.*/ERR/
        auth_param basic children 1
        http_port 127.0.0.1:{free} name=free
        http_port 127.0.0.1:{asking}
        acl free myportname free
        acl forbidden dst 127.0.0.3
        acl known proxy_auth REQUIRED
        http_access deny forbidden
        http_access allow free
        http_access allow known
        http_access deny all
        cache deny all
        pid_filename none
        access_log none
        cache_log /dev/null
        shutdown_lifetime 0 seconds""")
    plain, tls, ca = nginx
    with running([binary, "-N", "-f", str(tmp_path / "conf")], tmp_path, "127.0.0.1", asking):
        monkeypatch.setenv("all_proxy", f"http://me:secret@127.0.0.1:{asking}")
        run(many(plain))
        run(many(tls, ca))
        for login in ("", "me:wrong@"):
            monkeypatch.setenv("all_proxy", f"http://{login}127.0.0.1:{asking}")
            assert_told_of(asked(plain, ""), asked(tls, ca), 407)
        monkeypatch.setenv("all_proxy", f"127.0.0.1:{free}")
        assert all(isinstance(each, Reply) and each.status == 200 for each in (asked(plain, ""), asked(tls, ca)))
        for host, status in (("127.0.0.3", 403), ("127.0.0.4", 503)):  # by its rules, and where nobody is
            assert_told_of(asked(plain.replace(HOST, host), ""), asked(tls.replace(HOST, host), ca), status)
    assert isinstance(asked(plain, ""), Failure), "nobody is at the proxy any more"
    monkeypatch.setenv("no_proxy", HOST)
    assert all(isinstance(each, Reply) and each.status == 200 for each in (asked(plain, ""), asked(tls, ca)))


def test_uvicorn_answers_every_request_though_it_closes_what_is_idle(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    port = kept_port(HOST)
    (tmp_path / "echo.py").write_text(APP)
    words = ["echo:app", "--host", HOST, "--port", str(port), "--timeout-keep-alive", "1", "--log-level", "warning"]

    async def work() -> None:
        async with client(f"http://{HOST}:{port}/v1") as transport:
            for round_ in range(2):
                bodies = [b'{"n":"%d-%d-%s"}' % (round_, number, b"y" * (number * 50)) for number in range(100)]
                found = await asyncio.gather(*map(transport.send, bodies))
                assert [each.body for each in found if isinstance(each, Reply)] == bodies
                while any(each.answered for each in transport._connections._all):  # until it has closed what is idle
                    await turn()

    with running([sys.executable, "-m", "uvicorn", *words], tmp_path, HOST, port):
        run(work())
