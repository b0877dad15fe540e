"""What becomes of batches: each word of the script, each fault of a line, cancelling, and the enqueued-token limit."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

if TYPE_CHECKING:
    from openai.types import Batch

    from tests.simulator.batches.conftest import Api

    Serve = Callable[..., AbstractAsyncContextManager[Api]]


def _ids(lines: list[dict[str, Any]]) -> set[str]:
    return {line["custom_id"] for line in lines}


def _codes(lines: list[dict[str, Any]]) -> Counter[str]:
    return Counter(line["error"]["code"] for line in lines)


def _rows(count: int) -> set[str]:
    return {f"r{row}" for row in range(count)}


def _problems(batch: "Batch") -> list[tuple[str | None, int | None]]:
    assert batch.errors is not None
    return [(problem.code, problem.line) for problem in batch.errors.data or []]


def test_the_statuses_follow_one_another_and_the_counts_grow(serve: "Serve") -> None:
    async def exchange() -> None:
        async with serve(batch_s=2.0) as api:  # long enough to be looked at five times by a machine that is busy
            batch = await api.start(api.lines(200))
            statuses, completed = [], []

            def seen(now: "Batch") -> bool:
                statuses.append(now.status)
                assert now.request_counts is not None
                completed.append(now.request_counts.completed)
                assert now.output_file_id is None or now.status == "completed"
                return now.status == "completed"

            done = await api.until(batch.id, seen)
            order = ["validating", "in_progress", "finalizing", "completed"]
            assert [order.index(status) for status in statuses] == sorted(order.index(status) for status in statuses)
            assert {"in_progress", "completed"} <= set(statuses)
            assert completed == sorted(completed)
            assert len(set(completed)) > 4
            assert done.in_progress_at is not None
            assert done.in_progress_at <= (done.finalizing_at or 0) <= (done.completed_at or 0)

    uvloop.run(exchange())


def test_live_requests_are_served_while_a_batch_is_worked_on(serve: "Serve") -> None:
    async def exchange() -> None:
        async with serve() as api:
            batch = await api.start(api.lines(20_000))
            served = 0
            while (now := await api.client.batches.retrieve(batch.id)).status != "completed":
                await api.client.models.list()
                served += 1
            assert served >= 5
            assert now.request_counts is not None
            assert now.request_counts.completed == 20_000

    uvloop.run(exchange())


def test_an_expired_batch_has_what_was_done_and_names_the_rest(serve: "Serve") -> None:
    async def exchange() -> None:
        async with serve(batch_script=("expired", "expired:0.25")) as api:
            for share in (0.6, 0.25):
                batch = await api.result(api.lines(100))
                assert (batch.status, batch.expired_at is not None) == ("expired", True)
                done, rest = await api.content(batch.output_file_id), await api.content(batch.error_file_id)
                assert (len(done), _codes(rest)) == (100 * share, {"batch_expired": 100 - 100 * share})
                assert _ids(done) | _ids(rest) == _rows(100)
                assert rest[0]["response"] is None
                assert "completion window expired" in rest[0]["error"]["message"]
            figures = await api.figures()
            assert figures["batches"]["requests"] == 85
            assert figures["batches"]["by_status"] == {"expired": 2}

    uvloop.run(exchange())


def test_validation_fails_as_scripted_or_by_what_is_wrong(serve: "Serve") -> None:
    async def exchange() -> None:
        script = ("failed", "failed:token_limit_exceeded", "failed:duplicate_custom_id:line=3")
        async with serve(batch_script=script) as api:
            for problem in (("invalid_json_line", None), ("token_limit_exceeded", None), ("duplicate_custom_id", 3)):
                batch = await api.result(api.lines(5))
                assert (batch.status, _problems(batch)) == ("failed", [problem])
                assert (batch.output_file_id, batch.error_file_id) == (None, None)
            for data, problems in (
                (b"", [("empty_file", None)]),
                (api.lines(2) + b"{\n" + api.lines(1), [("invalid_json_line", 3), ("duplicate_custom_id", 4)]),
                (api.lines(1, model="unknown"), [("model_not_found", 1)]),
                (api.lines(1, url="/v1/embeddings"), [("mismatched_url", 1)]),
            ):
                batch = await api.result(data)
                assert (batch.status, _problems(batch)) == ("failed", problems)
            assert (await api.figures())["batches"]["requests"] == 0

    uvloop.run(exchange())


def test_a_batch_whose_requests_all_failed_has_no_output_file(serve: "Serve") -> None:
    async def exchange() -> None:
        async with serve(batch_script=("all_failed", "all_failed+empty_ids", "empty_ids")) as api:
            for missing in (None, ""):
                batch = await api.result(api.lines(10))
                assert (batch.status, batch.output_file_id) == ("completed", missing)
                errors = await api.content(batch.error_file_id)
                assert {line["response"]["status_code"] for line in errors} == {500}
                assert _ids(errors) == _rows(10)
            batch = await api.result(api.lines(10))
            assert batch.error_file_id == ""
            assert len(await api.content(batch.output_file_id)) == 10

    uvloop.run(exchange())


def test_a_cancelled_batch_has_what_was_done_and_names_the_rest(serve: "Serve") -> None:
    async def exchange() -> None:
        async with serve(batch_s=1.0) as api:
            batch = await api.start(api.lines(1000))
            await api.until(batch.id, lambda now: (now.request_counts or now).completed > 50)  # type: ignore[union-attr]  # the counts are always there
            cancelling = await api.client.batches.cancel(batch.id)
            assert cancelling.status == "cancelling"
            assert (await api.client.batches.cancel(batch.id)).status == "cancelling"
            batch = await api.over(batch)
            assert (batch.status, batch.cancelled_at is not None) == ("cancelled", True)
            done, rest = await api.content(batch.output_file_id), await api.content(batch.error_file_id)
            assert 50 < len(done) < 1000
            assert _codes(rest) == {"batch_cancelled": 1000 - len(done)}
            assert _ids(done) | _ids(rest) == _rows(1000)
            figures = await api.figures()
            assert figures["batches"]["requests"] == len(done)
            assert figures["batches"]["by_status"] == {"cancelled": 1}

    uvloop.run(exchange())


def test_a_batch_that_is_cancelled_before_it_began_did_nothing(serve: "Serve") -> None:
    async def exchange() -> None:
        async with serve(batch_s=1.0, batch_script=("ok", "failed")) as api:
            for rest in (20, 0):
                batch = await api.start(api.lines(20))
                await api.client.batches.cancel(batch.id)
                batch = await api.over(batch)
                assert (batch.status, batch.output_file_id) == ("cancelled", None)
                assert len(await api.content(batch.error_file_id)) == rest

    uvloop.run(exchange())


def test_stuck_batches_stay_until_they_are_cancelled_and_one_even_then(serve: "Serve") -> None:
    async def exchange() -> None:
        async with serve(batch_script=("stuck", "stuck:0", "stuck:validating", "stuck:cancelling")) as api:
            batches = [await api.start(api.lines(20)) for _ in range(4)]
            for batch, at in zip(batches, (10, 0, None, 10), strict=True):
                if at is not None:
                    await api.until(
                        batch.id,
                        lambda now, at=at: (  # type: ignore[misc]  # mypy does not infer a default
                            now.status == "in_progress" and now.request_counts.completed == at
                        ),
                    )
            await asyncio.sleep(0.05)
            statuses = [(await api.client.batches.retrieve(batch.id)).status for batch in batches]
            assert statuses == ["in_progress", "in_progress", "validating", "in_progress"]
            for batch in batches:
                assert (await api.client.batches.cancel(batch.id)).status == "cancelling"
            for batch, at in zip(batches[:3], (10, 0, 0), strict=True):
                done = await api.over(batch)
                assert done.status == "cancelled"
                assert len(await api.content(done.output_file_id)) == at
                assert len(await api.content(done.error_file_id)) == 20 - at
            assert (await api.client.batches.retrieve(batches[3].id)).status == "cancelling"

    uvloop.run(exchange())


def test_each_fault_of_a_line(serve: "Serve") -> None:
    async def exchange() -> None:
        names = ("missing", "500", "429", "503", "status_0", "null_response", "bad_body", "twice")
        async with serve(batch_faults=dict.fromkeys(names, 0.1), seed=4) as api:
            batch = await api.result(api.lines(1000))
            output, errors = await api.content(batch.output_file_id), await api.content(batch.error_file_id)
            seen: Counter[str] = Counter()
            for line in errors:
                seen["null" if line["response"] is None else str(line["response"]["status_code"])] += 1
            assert {line["error"]["code"] for line in errors if line["response"] is None} == {"server_error"}
            assert all(
                line["response"]["body"] is None for line in errors if (line["response"] or {}).get("status_code") == 0
            )
            times = Counter(line["custom_id"] for line in output)
            seen["twice"] = sum(count == 2 for count in times.values())
            seen["bad_body"] = sum("choices" not in line["response"]["body"] for line in output)
            seen["missing"] = len(_rows(1000) - _ids(output) - _ids(errors))
            assert set(seen) == {"500", "429", "503", "0", "null", "twice", "bad_body", "missing"}
            assert all(60 < count < 150 for count in seen.values()), seen
            counts = batch.request_counts
            assert counts is not None
            assert (counts.total, counts.failed) == (1000, len(errors))
            assert counts.completed == len(times) + seen["missing"]
            figures = await api.figures()
            assert figures["batches"]["requests"] == 1000
            assert figures["batches"]["inputs"] == {"/chat/completions": len(times)}  # the others cost nothing
            again = await api.result(api.lines(1000))
            assert _ids(await api.content(again.error_file_id)) != _ids(errors)  # another batch has other faults

            figures = await api.figures()
            assert figures["answered_twice"] > 0
        async with serve(batch_faults=dict.fromkeys(names, 0.1), seed=4) as api:
            same = await api.result(api.lines(1000))
            assert _ids(await api.content(same.error_file_id)) == _ids(errors)

    uvloop.run(exchange())


def test_structured_replies_of_batches_are_damaged_as_live_ones_are(serve: "Serve") -> None:
    async def exchange() -> None:
        async with serve(content_faults={"extra-prose": 0.5}, batch_script=("ok",)) as api:
            batch = await api.result(api.lines(100, response_format={"type": "json_object"}))
            texts = [
                line["response"]["body"]["choices"][0]["message"]["content"]
                for line in await api.content(batch.output_file_id)
            ]

            def whole(text: str) -> bool:
                try:
                    json.loads(text)
                except ValueError:
                    return False
                return True

            assert 20 < sum(whole(text) for text in texts) < 80
            assert (await api.figures())["repeated_after_damage"] == 0
            await api.result(api.lines(100, response_format={"type": "json_object"}))
            assert (await api.figures())["repeated_after_damage"] == 100 - sum(whole(text) for text in texts)

    uvloop.run(exchange())


def test_tokens_that_are_enqueued_at_a_time_are_limited(serve: "Serve") -> None:
    async def exchange() -> None:
        async with serve(batch_enqueued_tokens=50, batch_script=("stuck",)) as api:
            stuck = await api.start(api.lines(30))  # a token each
            await api.until(stuck.id, lambda now: now.status == "in_progress")
            refused = await api.result(api.lines(21))
            assert (refused.status, _problems(refused)) == ("failed", [("token_limit_exceeded", None)])
            assert refused.errors is not None
            assert str((refused.errors.data or [])[0].message).startswith("Enqueued token limit reached for sim-small")
            assert (await api.result(api.lines(20))).status == "completed"
            await api.client.batches.cancel(stuck.id)
            await api.over(stuck)
            assert (await api.result(api.lines(50))).status == "completed"
            assert (await api.figures())["batches"]["enqueued_max"] == 50

    uvloop.run(exchange())


def test_every_route_that_costs_can_be_a_batchs_endpoint(serve: "Serve") -> None:
    async def exchange() -> None:
        bodies: dict[str, dict[str, Any]] = {
            "/v1/embeddings": {"model": "m", "input": ["a", "b"], "dimensions": 4},
            "/v1/completions": {"model": "m", "prompt": "a"},
            "/v1/responses": {"model": "m", "input": "a"},
            "/v1/moderations": {"model": "m", "input": "a"},
        }
        async with serve() as api:
            for url, body in bodies.items():
                line = json.dumps({"custom_id": "a", "method": "POST", "url": url, "body": body}).encode()
                file = await api.upload(line)  # without a newline at its end
                batch = await api.client.batches.create(
                    input_file_id=file.id,
                    endpoint=url,  # type: ignore[arg-type]  # each is one of the literals
                    completion_window="24h",
                )
                (result,) = await api.content((await api.over(batch)).output_file_id)
                live = await api.client.post(url.removeprefix("/v1"), content=json.dumps(body).encode(), cast_to=object)
                assert result["response"]["body"] == live
            assert (await api.figures())["repeated_after_success"] == 4

    uvloop.run(exchange())


@pytest.mark.parametrize("word", ["stuck", "ok"])
def test_a_server_stops_at_once_while_batches_are_at_work(serve: "Serve", word: str) -> None:
    async def exchange() -> None:
        async with asyncio.timeout(5), serve(batch_s=60.0, batch_script=(word,)) as api:
            await api.start(api.lines(10))

    uvloop.run(exchange())
