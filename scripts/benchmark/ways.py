"""The ways to call a model that Rowmill is measured against: each a program as people write it.

    ways.py NAME --url URL --input FILE --output FILE --in-flight N [--authority PEM]

A program of its own for each, so that its CPU time, start and imports included, can be taken from outside.
"""

import argparse
import asyncio
import itertools
import json
import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

MODEL = "bench"
KEY = "sk-bench"
HEADERS = (  # of the ways that write their requests themselves
    ("authorization", f"Bearer {KEY}"),
    ("content-type", "application/json"),
    ("accept", "application/json"),
    ("user-agent", "bench"),
)
OK = 200
Row = dict[str, Any]


class Job(NamedTuple):
    """What a way is to do."""

    url: str  # up to and with "/v1"
    source: Path
    target: Path
    in_flight: int
    authority: Path | None  # PEM, with TLS


def read(path: Path) -> list[Row]:
    """Return the rows of a file of JSON lines."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def messages(row: Row) -> "list[ChatCompletionMessageParam]":
    """Return the row as a conversation."""
    return [{"role": "user", "content": row["text"]}]


def line(row: Row, reply: "ChatCompletion") -> str:
    """Return the line that goes to the output."""
    return json.dumps({"id": row["id"], "output": reply.choices[0].message.content}) + "\n"


def serial(job: Job) -> None:
    """Call the SDK in a loop, one request after the other."""
    from openai import OpenAI

    client = OpenAI(base_url=job.url, api_key=KEY)
    with job.target.open("w") as output:
        for row in read(job.source):
            output.write(line(row, client.chat.completions.create(model=MODEL, messages=messages(row))))


def threads(job: Job) -> None:
    """Call the SDK in a pool of threads."""
    from openai import OpenAI

    client = OpenAI(base_url=job.url, api_key=KEY)

    def ask(row: Row) -> str:
        return line(row, client.chat.completions.create(model=MODEL, messages=messages(row)))

    with ThreadPoolExecutor(job.in_flight) as pool, job.target.open("w") as output:
        output.writelines(pool.map(ask, read(job.source)))


def async_client(job: Job, **options: Any) -> "AsyncOpenAI":
    """Return the SDK's client as it is by default, but for the authority that has to be trusted."""
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    if job.authority:
        options["http_client"] = DefaultAsyncHttpxClient(verify=ssl.create_default_context(cafile=job.authority))
    return AsyncOpenAI(base_url=job.url, api_key=KEY, **options)


def gather(job: Job) -> None:
    """Do as the usual script does: `AsyncOpenAI`, a semaphore, a task for each row."""

    async def main() -> None:
        client = async_client(job)
        slots = asyncio.Semaphore(job.in_flight)

        async def ask(row: Row) -> str:
            async with slots:
                return line(row, await client.chat.completions.create(model=MODEL, messages=messages(row)))

        lines = await asyncio.gather(*(ask(row) for row in read(job.source)))
        with job.target.open("w") as output:
            output.writelines(lines)

    asyncio.run(main())


def tenacity(job: Job) -> None:
    """Do the same with tenacity around the call, and each result appended as it comes."""
    from openai import APIConnectionError, InternalServerError, RateLimitError
    from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

    async def main() -> None:
        client = async_client(job, max_retries=0)
        slots = asyncio.Semaphore(job.in_flight)

        @retry(
            wait=wait_random_exponential(max=60),
            stop=stop_after_attempt(6),
            retry=retry_if_exception_type((APIConnectionError, InternalServerError, RateLimitError)),
        )
        async def call(row: Row) -> "ChatCompletion":
            return await client.chat.completions.create(model=MODEL, messages=messages(row))

        with job.target.open("a") as output:

            async def ask(row: Row) -> None:
                async with slots:
                    reply = await call(row)
                output.write(line(row, reply))
                output.flush()

            await asyncio.gather(*(ask(row) for row in read(job.source)))

    asyncio.run(main())


def requests(job: Job) -> Iterator[bytes]:
    """Return one body, encoded once, for each row; the slots of a bare way take from the same iterator."""
    with job.source.open("rb") as file:
        body = json.dumps({"model": MODEL, "messages": messages(json.loads(file.readline()))})
        return itertools.repeat(body.encode(), 1 + sum(1 for _ in file))


def bare(job: Job, loop: Callable[[], asyncio.AbstractEventLoop] | None) -> None:
    """Run pyreqwest and nothing else: replies are decoded, then dropped.

    Decompression and proxies are off, as in Rowmill's own client on loopback: this is the best that pyreqwest does.
    """
    import msgspec
    from pyreqwest.client import ClientBuilder
    from pyreqwest.http import Url

    async def main() -> None:
        bodies = requests(job)
        builder = ClientBuilder().default_headers(dict(HEADERS))
        builder = builder.no_proxy().gzip(enable=False).brotli(enable=False).zstd(enable=False).deflate(enable=False)
        if job.authority:
            builder = builder.add_root_certificate_pem(job.authority.read_bytes())
        address = Url(f"{job.url}/chat/completions")
        async with builder.error_for_status(enable=True).build() as client:

            async def slot() -> None:
                for body in bodies:
                    reply = await client.post(address).body_bytes(body).build().send()
                    msgspec.json.decode(await reply.bytes())

            await asyncio.gather(*(slot() for _ in range(job.in_flight)))

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())
    # The client's own thread may still be on its way back from waking the loop. On one core and asyncio's loop it met
    # the interpreter's end in half of the runs, and the process was aborted. Nothing is buffered here: leave at once.
    os._exit(0)


def bare_asyncio(job: Job) -> None:
    """Run bare pyreqwest on asyncio's own loop."""
    bare(job, None)


def bare_uvloop(job: Job) -> None:
    """Run bare pyreqwest on uvloop."""
    import uvloop

    bare(job, uvloop.new_event_loop)


def bare_own(job: Job) -> None:
    """Run Rowmill's own HTTP/1.1 and nothing else: replies are decoded, then dropped."""
    import msgspec
    import uvloop

    from rowmill.core.wire import Endpoint, Reply
    from rowmill.transport.direct import DirectTransport

    async def main() -> None:
        bodies = requests(job)
        endpoint = Endpoint(
            provider="bench",
            base_url=job.url,
            key=None,
            openai_account=False,
            timeout_s=60.0,
            url=f"{job.url}/chat/completions",
            headers=HEADERS,
            ca=job.authority.read_text() if job.authority else "",
        )
        client = DirectTransport(endpoint)

        async def slot() -> None:
            for body in bodies:
                reply = await client.send(body)
                if not isinstance(reply, Reply) or reply.status != OK:
                    raise SystemExit(f"no reply: {reply}")
                msgspec.json.decode(reply.body)

        await asyncio.gather(*(slot() for _ in range(job.in_flight)))
        await client.close()

    uvloop.run(main())


WAYS: dict[str, Callable[[Job], None]] = {
    "serial": serial,
    "threads": threads,
    "gather": gather,
    "tenacity": tenacity,
    "bare-asyncio": bare_asyncio,
    "bare-uvloop": bare_uvloop,
    "bare-own": bare_own,
}


def main(ways: Mapping[str, Callable[[Job], None]]) -> None:
    """Run one of the ways over one input."""
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=ways)
    parser.add_argument("--url", required=True, help='up to and with "/v1"')
    parser.add_argument("--input", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--in-flight", required=True, type=int)
    parser.add_argument("--authority", type=Path, default=None, help="PEM of a certificate to trust")
    said = parser.parse_args()
    ways[said.way](Job(said.url, said.input, said.output, said.in_flight, said.authority))


if __name__ == "__main__":
    main(WAYS)
