"""What Ray itself offers to ask a model about many rows: ray_ways.py WAY URL FILE ROWS. Prints its own CPU seconds.

`scripts/bench` measures the processor of HTTP requests, too, beside other tools.
"""

import asyncio
import os
import sys
from typing import Any

import ray

IN_FLIGHT = 64
ACTOR_CPUS = 0.4  # Ray has other tasks of a Dataset to run beside, or none comes to its end


def map_batches(url: str, rows: ray.data.Dataset) -> ray.data.Dataset:
    """Do as the usual script does: an asynchronous client in `map_batches`."""

    class Ask:
        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            return asyncio.run(self._ask(batch))

        async def _ask(self, batch: dict[str, Any]) -> dict[str, Any]:
            from openai import AsyncOpenAI

            slots = asyncio.Semaphore(IN_FLIGHT)
            async with AsyncOpenAI(base_url=url, api_key="none") as client:

                async def ask(text: str) -> str:
                    async with slots:
                        reply = await client.chat.completions.create(
                            model="m", messages=[{"role": "user", "content": text}]
                        )
                    return reply.choices[0].message.content or ""

                batch["output"] = await asyncio.gather(*map(ask, batch["text"]))
            return batch

    return rows.map_batches(Ask, batch_size=1000, concurrency=2, num_cpus=ACTOR_CPUS)


def http_processor(url: str, rows: ray.data.Dataset) -> ray.data.Dataset:
    """Use Ray Data's own processor of HTTP requests."""
    from ray.data.llm import HttpRequestProcessorConfig, build_processor

    config = HttpRequestProcessorConfig(url=f"{url}/chat/completions", batch_size=IN_FLIGHT, concurrency=1)
    processor = build_processor(
        config,
        preprocess=lambda row: {
            "payload": {"model": "m", "messages": [{"role": "user", "content": row["text"]}]},
            "id": row["id"],
        },
        postprocess=lambda row: {
            "id": row["id"],
            "output": row["http_response"]["choices"][0]["message"]["content"],
        },
    )
    return processor(rows)


def main() -> None:
    """Run one way."""
    way, url, source, rows = sys.argv[1:]
    ray.init(log_to_driver=False, logging_level=40)
    asked = {"map_batches": map_batches, "http_processor": http_processor}[way]
    done = asked(url, ray.data.read_json(source, lines=True).limit(int(rows)))
    assert done.materialize().count() == int(rows)
    ray.shutdown()
    times = os.times()
    print(times.user + times.system)


if __name__ == "__main__":
    main()
