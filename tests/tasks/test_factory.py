"""Which task a configuration asks for, and replies that are kept whole."""

import json
import subprocess
import sys
from typing import Any

import pytest

from rowmill.core.config import TaskConfig
from rowmill.core.config.sections import InputConfig
from rowmill.core.errors import BadReply, ConfigError, InvalidOutput
from rowmill.tasks import Task
from rowmill.tasks.factory import open_task
from rowmill.tasks.plain import PlainTask

USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


def opened(*, whole_reply: bool = False, **config: Any) -> Task:
    return open_task(
        TaskConfig(**{"model": "m", "prompt": "{q}"} | config), InputConfig(path="in.jsonl"), whole_reply=whole_reply
    )


def chat_reply(**message: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": None} | message, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "x", "choices": [choice], "usage": USAGE}


def test_a_plain_chat_has_the_task_made_for_it() -> None:
    assert type(opened()) is PlainTask


def test_a_whole_reply_is_the_body_as_it_came_and_is_counted_as_any_other() -> None:
    for message in ({"content": "hé"}, {"refusal": "no"}, {"tool_calls": [{"id": "1"}]}):
        body = json.dumps(chat_reply(**message), ensure_ascii=False, indent=1).encode() + b"\n"
        answer = opened(whole_reply=True).parse(body)
        assert answer.output == body.strip()
        assert (answer.prompt_tokens, answer.completion_tokens, answer.model) == (9, 4, b'"x"')
    for bad in (b"", b"[]", json.dumps(chat_reply()).encode()):
        with pytest.raises(BadReply):
            opened(whole_reply=True).parse(bad)


def test_a_whole_refusal_of_the_responses_api_is_counted_too() -> None:
    refusal = {"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}
    body = {"status": "completed", "output": [refusal], "usage": {"input_tokens": 5, "output_tokens": 2}}
    answer = opened(whole_reply=True, api="responses").parse(json.dumps(body).encode())
    assert (answer.prompt_tokens, answer.completion_tokens) == (5, 2)


@pytest.mark.parametrize("api", ["chat.completions", "responses"])
@pytest.mark.parametrize("config", [{}, {"per_row": {"seed": "s"}}])
def test_a_schema_is_asked_for_and_held(api: str, config: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    task = opened(api=api, schema=schema, **config)
    request = task.build(b'{"q":"x","s":1}')
    asked = json.loads(request.body)
    named = asked["response_format"]["json_schema"] if api == "chat.completions" else asked["text"]["format"]
    assert named["schema"] == schema

    def reply(text: str) -> bytes:
        if api == "chat.completions":
            return json.dumps(chat_reply(content=text)).encode()
        return json.dumps(
            {"output": [{"type": "message", "content": [{"type": "output_text", "text": text}]}]}
        ).encode()

    assert json.loads(task.parse(reply('{"a": 1}')).output) == {"a": 1}
    with pytest.raises(InvalidOutput) as invalid:
        task.parse(reply('{"a": "one"}'))
    again = json.loads(task.again(request, invalid.value).body)
    assert len(again["messages" if api == "chat.completions" else "input"]) == 3


def test_rows_of_a_chat_share_a_request_where_that_is_asked_for() -> None:
    task = opened(rows_per_request=20)
    assert task.rows_per_request == 20
    alone = task.build(b'{"q":"x"}')
    assert alone.body == opened().build(b'{"q":"x"}').body == task.pack([alone]).body


def test_a_question_is_what_every_input_needs_but_a_batch_file_which_has_its_own() -> None:
    for config, found, key in (
        (TaskConfig(model="m"), "jsonl", "task.prompt: is missing"),
        (TaskConfig(model="m", prompt="{q}"), "batch", "task.prompt: the lines of a batch file"),
        (TaskConfig(model="m", params={"seed": 1}), "batch", "task.params: the lines of a batch file"),
    ):
        with pytest.raises(ConfigError, match=f"^{key}"):
            open_task(config, InputConfig(path="in.jsonl"), input_format=found)
        with pytest.raises(ConfigError, match=f"^{key}"):
            open_task(config, InputConfig(path="in.jsonl", format=found))  # type: ignore[arg-type]  # as it was found
    with pytest.raises(ConfigError, match=r"^input\.id: the lines of a batch file have their custom_id"):
        open_task(TaskConfig(), InputConfig(path="in.jsonl", format="batch", id="id"))


@pytest.mark.parametrize("config", [{"schema": {"type": "object"}}, {"rows_per_request": 2}])
def test_what_takes_a_reply_apart_cannot_keep_it_whole(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"^task\.{next(iter(config))}: replies are kept whole"):
        opened(whole_reply=True, **config)


def test_texts_are_all_that_some_apis_take() -> None:
    for api in ("completions", "embeddings", "moderations"):
        with pytest.raises(ConfigError, match=r"^task\.images: "):
            opened(api=api, images=["a"])


def test_a_plain_run_imports_nothing_that_it_does_not_use() -> None:
    program = (
        "import sys; from rowmill.core.config import TaskConfig; from rowmill.core.config.sections import InputConfig\n"
        "from rowmill.tasks.factory import open_task\n"
        "open_task(TaskConfig(model='m', prompt='{q}'), InputConfig(path='x')).build(b'{\"q\":\"a\"}')\n"
        "print([name for name in ('jinja2', 'jsonschema_rs', 'rowmill.tasks.composed') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
