"""How other tools ask for the rows, each as its own documentation says: `python -m scripts.benchmark.peer_ways NAME`.

Takes the same arguments as `ways`, is run by the Python of the tool's environment, and leaves a line for each row.
What would keep a tool from asking as fast as it can, a limit that it has where nobody tells it one, is told; what it
would send to its makers is turned off.
"""

# mypy: disable-error-code="import-not-found"
# They are installed in environments of their own, where no types are checked.

import asyncio
import importlib.util
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scripts.benchmark.ways import KEY, MODEL, Job, Row, line, main, messages, read

NO_LIMIT = 10**9  # a minute


def litellm(job: Job) -> None:
    """Await `acompletion` for each row, as with `AsyncOpenAI`."""
    import litellm

    async def ask_all() -> None:
        slots = asyncio.Semaphore(job.in_flight)

        async def ask(row: Row) -> str:
            async with slots:
                reply = await litellm.acompletion(
                    model=f"openai/{MODEL}", messages=messages(row), api_base=job.url, api_key=KEY
                )
            return line(row, reply)

        lines = await asyncio.gather(*(ask(row) for row in read(job.source)))
        with job.target.open("w") as output:
            output.writelines(lines)

    asyncio.run(ask_all())


def litellm_batch(job: Job) -> None:
    """Hand all rows to `batch_completion`."""
    import litellm

    rows = read(job.source)
    replies = litellm.batch_completion(
        model=f"openai/{MODEL}",
        messages=[messages(row) for row in rows],
        api_base=job.url,
        api_key=KEY,
        max_workers=job.in_flight,
    )
    with job.target.open("w") as output:
        output.writelines(map(line, rows, replies))


def curator(job: Job) -> None:
    """Call a `curator.LLM` with the rows."""
    # it counts tokens by tiktoken, whose tables are on the net, and in litellm, which it needs too
    at = importlib.util.find_spec("litellm")
    assert at
    assert at.origin
    os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(at.origin).parent / "litellm_core_utils" / "tokenizers")
    from bespokelabs import curator
    from datasets import Dataset  # type: ignore[import-untyped]

    class Ask(curator.LLM):  # type: ignore[misc]  # it has no types
        def prompt(self, row: Row) -> str:
            return str(row["text"])

        def parse(self, row: Row, response: str) -> Row:
            return {"id": row["id"], "output": response}

    limits = {"max_requests_per_minute": NO_LIMIT, "max_tokens_per_minute": NO_LIMIT * 1000}
    llm = Ask(
        model_name=MODEL,
        backend="openai",
        backend_params={
            "base_url": job.url,
            "api_key": KEY,
            "max_concurrent_requests": job.in_flight,
            **limits,
        },
    )
    write(job, llm(Dataset.from_list(read(job.source))).dataset)


def ray(job: Job) -> None:
    """Build the processor of HTTP requests that Ray Data has."""
    import ray

    from scripts.proving.ray_ways import http_processor

    # By itself, and with more CPUs than the one core that there is: its actor takes one, the tasks around it others
    ray.init("local", num_cpus=4, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    write(job, http_processor(job.url, ray.data.read_json(str(job.source), lines=True)).iter_rows())
    ray.shutdown()


def daft(job: Job) -> None:
    """Make a column by `prompt`."""
    import daft
    from daft.ai.openai.provider import OpenAIProvider
    from daft.functions import prompt

    provider = OpenAIProvider(base_url=job.url, api_key=KEY)
    rows = daft.read_json(str(job.source))
    asked = rows.with_column(
        "output", prompt(daft.col("text"), provider=provider, model=MODEL, use_chat_completions=True)
    )
    write(job, asked.iter_rows())


def datatrove(job: Job) -> None:
    """Run a pipeline of a reader and an `InferenceRunner`, which writes by itself."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    async def ask(document: Any, generate: Any) -> Any:
        return await generate({"messages": [{"role": "user", "content": document.text}]})

    config = InferenceConfig(
        server_type="endpoint",
        endpoint_url=job.url.removesuffix("/v1"),
        api_key=KEY,
        model_name_or_path=MODEL,
        max_concurrent_generations=job.in_flight,
    )
    writer = JsonlWriter(str(job.target.parent), output_filename=job.target.name, compression=None)
    reader = JsonlReader(str(job.source.parent), glob_pattern=job.source.name)
    runner = InferenceRunner(ask, config, output_writer=writer)
    LocalPipelineExecutor(pipeline=[reader, runner], logging_dir=str(job.target.parent / "logs")).run()


def write(job: Job, rows: Iterable[Row]) -> None:
    """Write rows with their outputs as lines."""
    with job.target.open("w") as output:
        output.writelines(json.dumps({"id": row["id"], "output": row["output"]}) + "\n" for row in rows)


PEER_WAYS = {
    "litellm": litellm,
    "litellm-batch": litellm_batch,
    "curator": curator,
    "ray": ray,
    "daft": daft,
    "datatrove": datatrove,
}

if __name__ == "__main__":
    # litellm would fetch prices; curator, Daft and Ray would tell that they are used
    os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "TELEMETRY_ENABLED": "false", "DO_NOT_TRACK": "true"}
    os.environ |= {"DAFT_ANALYTICS_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_OFFLINE": "1"}
    main(PEER_WAYS)
