"""What a server of TLS asks for behind the first handshake: another one (TLS 1.2), or new keys (1.3).

Python's own servers ask for none of it; `openssl s_server` does, at a letter.
"""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from rowmill.core.wire import Failure, Reply
from rowmill.transport.direct import DirectTransport
from tests.transport.http1.talk import BODY, client, run, turn

HOST = "127.0.0.1"
ANSWER = b"HTTP/1.1 200 OK\nContent-Length: 14\n\n" + BODY + b"\n"  # a terminal's lines end so
AGAIN, AGAIN_WITH_CERTIFICATE, KEYS = b"r", b"R", b"K"


class Asking:
    """An `openssl s_server` behind a relay, which can keep back what the client says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._seen = b""
        self.passes = asyncio.Event()
        self.passes.set()
        self.kept_back = asyncio.Event()
        self.spoke = asyncio.Event()

    async def shows(self, words: bytes) -> None:
        """Return once it has printed this, behind all that it was seen to print before."""
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            while words not in self._seen:
                piece = await self._process.stdout.read(1 << 16)
                assert piece, self._seen
                self._seen += piece
        self._seen = self._seen.partition(words)[2]

    async def port(self) -> int:
        await self.shows(f"ACCEPT {HOST}:".encode())
        line = self._seen
        await self.shows(b"\n")
        return int(line.partition(b"\n")[0])

    def types(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)

    async def answers(self, asked: "asyncio.Future[Reply | Failure]", body: bytes) -> None:
        """Answer the request with this body, once it is there."""
        await self.shows(body)
        self.types(ANSWER)
        found = await asked
        assert isinstance(found, Reply), found
        assert found.body.strip() == BODY

    @contextlib.asynccontextmanager
    async def relayed(self, port: int) -> AsyncIterator[int]:
        pipes = list[asyncio.Task[None]]()
        writers = list[asyncio.StreamWriter]()

        async def there(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(1 << 16):
                if not self.passes.is_set():
                    self.kept_back.set()
                    await self.passes.wait()
                writer.write(data)

        async def back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(1 << 16):
                writer.write(data)
                self.spoke.set()

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection(HOST, port)
            writers.extend((writer, far_writer))
            pipes.append(asyncio.create_task(there(reader, far_writer)))
            pipes.append(asyncio.create_task(back(far_reader, writer)))

        async with await asyncio.start_server(relay, HOST, 0) as server:
            try:
                yield server.sockets[0].getsockname()[1]
            finally:
                server.close()
                for each in pipes:
                    each.cancel()
                await asyncio.gather(*pipes, return_exceptions=True)
                for each_writer in writers:
                    each_writer.close()
                    with contextlib.suppress(ConnectionError):
                        await each_writer.wait_closed()


@contextlib.asynccontextmanager
async def asking(folder: Path, version: str) -> AsyncIterator[tuple[Asking, DirectTransport]]:
    """Serve one connection; gives the server, and who asks it."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(folder / "own.pem"))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_server", "-accept", f"{HOST}:0", "-cert", "own.pem", "-naccept", "1", "-crlf", version),
        cwd=folder,
        stdin=pipe,
        stdout=pipe,
        stderr=asyncio.subprocess.STDOUT,
    )
    server = Asking(process)
    try:
        async with (
            server.relayed(await server.port()) as port,
            client(f"https://{HOST}:{port}/v1", ca=authority.cert_pem.bytes().decode()) as transport,
        ):
            await server.answers(asyncio.ensure_future(transport.send(b'{"request": 1}')), b'{"request": 1}')
            yield server, transport
    finally:
        with contextlib.suppress(ProcessLookupError):  # it ends by itself after its one connection
            process.kill()
        await process.wait()


pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest.mark.parametrize(
    ("version", "letter"), [("-tls1_2", AGAIN), ("-tls1_2", AGAIN_WITH_CERTIFICATE), ("-tls1_3", KEYS)]
)
def test_a_server_that_wants_a_new_handshake_or_new_keys_gets_them(tmp_path: Path, version: str, letter: bytes) -> None:
    """As one does that wants to see a certificate for some of its paths alone, once it has read what is asked for."""

    async def work() -> None:
        async with asking(tmp_path, version) as (server, transport):
            for number in (2, 3):
                body = b'{"request": %d}' % number
                asked = asyncio.ensure_future(transport.send(body))
                await server.shows(body[:-1])
                server.spoke.clear()
                server.types(letter + b"\n")
                await server.spoke.wait()
                await server.answers(asked, b"}")

    run(work())


def test_a_request_that_is_written_while_its_server_wants_a_new_handshake_waits_for_that(tmp_path: Path) -> None:
    async def work() -> None:
        async with asking(tmp_path, "-tls1_2") as (server, transport):
            server.passes.clear()
            server.types(AGAIN + b"\n")
            await server.kept_back.wait()  # the client's first word of it
            body = b'{"request": 2, "long": "%b"}' % (b"x" * 600_000)
            asked = asyncio.ensure_future(transport.send(body))
            await turn()
            server.passes.set()
            await server.answers(asked, b'xxx"}')

    run(work())
