"""Tasks beyond a plain prompt: conversations, images, Jinja2 and members by column, as they stand in the request."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.config import TaskConfig
from rowmill.core.config.sections import InputConfig
from rowmill.core.errors import ConfigError, InputError, InvalidRow
from rowmill.core.rows import BROKEN
from rowmill.tasks import Task
from rowmill.tasks.factory import open_task

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 60


def task(id_column: str | None = None, **config: Any) -> Task:
    return open_task(TaskConfig(**{"model": "m"} | config), InputConfig(path="in.jsonl", id=id_column, images_dir="/"))


def body(row: dict[str, Any], **config: Any) -> dict[str, Any]:
    built: dict[str, Any] = json.loads(task(**config).build(json.dumps(row).encode()).body)
    return built


def messages(row: dict[str, Any], **config: Any) -> Any:
    return body(row, **config)["messages"]


def reason(row: dict[str, Any], **config: Any) -> str:
    with pytest.raises(InvalidRow) as error:
        body(row, **config)
    return str(error.value)


# Prompts


def test_a_jinja_prompt_and_its_system_text_are_rendered_for_each_row() -> None:
    config = {"template": "jinja", "prompt": "{{ a }}{% if b %}, {{ b }}{% endif %}", "system": "For {{ a }}"}
    assert messages({"a": "x", "b": None}, **config) == [
        {"role": "system", "content": "For x"},
        {"role": "user", "content": "x"},
    ]
    assert messages({"a": "x", "b": 2}, **config)[1]["content"] == "x, 2"


def test_braces_in_a_system_text_are_text_unless_the_template_is_jinja() -> None:
    text = 'Reply as {"label": "{{x}}"}'
    assert messages({"a": "x"}, prompt="{a}", system=text)[0]["content"] == text
    assert messages({"a": "x"}, prompt="{a}", system=text, per_row={"seed": "s"})[0]["content"] == text
    assert messages({"x": "y"}, prompt="p", system=text, template="jinja")[0]["content"] == 'Reply as {"label": "y"}'


def test_plain_prompts_make_the_same_request_whatever_task_builds_them() -> None:
    """A row that overrides nothing asks what it would ask without the key."""
    config: dict[str, Any] = {"prompt": "<{a}> {b}", "system": "s", "params": {"temperature": 0}}
    for api in ("chat.completions", "responses"):
        line = b'{"id":"7","a":"\\u00e9 \\"","b":[1,null]}'
        plain = task("id", api=api, **config)
        composed = task("id", api=api, per_row={"seed": "seed"}, **config)
        assert type(plain) is not type(composed)
        assert plain.build(line) == composed.build(line)


def test_a_template_that_wants_the_whole_row_reads_every_column() -> None:
    whole = task("id", template="jinja", prompt="{{ row['a \"b\"'] }}")
    assert whole.columns is None
    assert whole.build(b'{"a \\"b\\"":"x","id":5}').id == b"5"
    assert task("id", template="jinja", prompt="{{ a }}").columns == ["a", "id"]


def test_half_a_surrogate_pair_of_a_template_is_the_rows_failure() -> None:
    assert "UTF-8" in reason({"a": 0xD800}, template="jinja", prompt="{{ '%c'|format(a) }}")


# Conversations


def test_a_column_of_messages_is_passed_on_without_the_nulls_of_a_table() -> None:
    row = {
        "chat": [
            {"role": "user", "content": "a", "name": None},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            {"role": "user", "content": [{"type": "text", "text": "b", "image_url": None}]},
        ]
    }
    assert messages(row, messages="chat") == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "user", "content": [{"type": "text", "text": "b"}]},
    ]
    assert messages({"chat": json.dumps(row["chat"])}, messages="chat") == messages(row, messages="chat"), "from CSV"


def test_the_runs_system_text_stands_before_the_messages_but_where_a_row_has_its_own() -> None:
    user = {"role": "user", "content": "a"}
    own = {"role": "system", "content": "own"}
    assert messages({"c": [user]}, messages="c", system="s") == [{"role": "system", "content": "s"}, user]
    assert messages({"c": [own, user]}, messages="c", system="s") == [own, user]
    assert body({"c": [user]}, messages="c", system="s", api="responses") == {
        "model": "m",
        "instructions": "s",
        "input": [user],
    }


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "is no list of messages"),
        ("text", "is a text, and no JSON list"),
        ({"role": "user"}, "is no list of messages"),
        ([], "is an empty list"),
        (["hi"], "message 0 is no object"),
        ([{"role": "user", "content": "a"}, {"content": "b"}], "message 1 has no role"),
        ([{"role": "user", "content": 5}], "message 0 has a content that is neither"),
    ],
)
def test_messages_of_a_wrong_shape_name_the_key_the_column_and_the_message(value: Any, words: str) -> None:
    told = reason({"chat": value}, messages="chat")
    assert told.startswith("task.messages: column 'chat'")
    assert words in told


def test_messages_of_the_configuration_are_templates() -> None:
    turns = [
        {"role": "user", "content": "Say {a}"},
        {"role": "assistant", "content": "{{}}", "name": "{a}"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "{b}"}, {"type": "image_url", "image_url": {"url": "{u}"}}],
        },
    ]
    assert messages({"a": "x", "b": 1, "u": "https://u"}, messages=turns) == [
        {"role": "user", "content": "Say x"},
        {"role": "assistant", "content": "{}", "name": "{a}"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "1"}, {"type": "image_url", "image_url": {"url": "https://u"}}],
        },
    ]
    assert reason({"a": "x", "b": 1}, messages=turns) == "the row has no column 'u'"
    assert reason({"a": " "}, messages=[{"role": "system", "content": "s"}, {"role": "user", "content": "{a}"}]) == (
        "the prompt is empty"
    )


@pytest.mark.parametrize(
    ("message", "key"),
    [
        ({"content": "a"}, "task.messages[0]: role"),
        ({"role": "user"}, "task.messages[0]: content"),
        ({"role": "user", "content": "{"}, "task.messages[0].content: "),
        ({"role": "user", "content": [{"text": "{"}]}, "task.messages[0].content[0].text: "),
    ],
)
def test_a_message_of_the_configuration_that_is_none_is_refused_by_its_key(message: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as error:
        task(messages=[message])
    assert str(error.value).startswith(key)


# Images


def test_images_stand_behind_the_prompt_in_the_form_of_the_api(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    row = {"q": "What?", "one": "https://x/a.png", "two": str(tmp_path / "a.png")}
    data = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    config: dict[str, Any] = {"prompt": "{q}", "images": ["one", "two"]}
    (message,) = messages(row, **config)
    assert message["content"] == [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": "https://x/a.png"}},
        {"type": "image_url", "image_url": {"url": data}},
    ]
    (item,) = body(row, api="responses", **config)["input"]
    assert item["content"] == [
        {"type": "input_text", "text": "What?"},
        {"type": "input_image", "image_url": "https://x/a.png"},
        {"type": "input_image", "image_url": data},
    ]
    assert messages(row | {"one": None, "two": ""}, **config) == [{"role": "user", "content": "What?"}]
    (alone,) = messages(row | {"q": "", "two": None}, **config)
    assert [part["type"] for part in alone["content"]] == ["image_url"]
    assert reason({"q": "", "one": None, "two": None}, **config) == "the prompt is empty"


def test_images_of_a_conversation_stand_in_its_last_user_message() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x"}}
    user, assistant = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    listed = {"role": "user", "content": [{"type": "text", "text": "c"}]}
    config: dict[str, Any] = {"messages": "c", "images": ["i"]}

    def sent(*turns: dict[str, Any]) -> Any:
        return messages({"c": list(turns), "i": "https://x"}, **config)

    assert sent(user, assistant, user, assistant) == [
        user, assistant, {"role": "user", "content": [{"type": "text", "text": "a"}, image]}, assistant,
    ]  # fmt: skip
    assert sent(listed)[0]["content"] == [*listed["content"], image]
    assert sent(assistant) == [assistant, {"role": "user", "content": [image]}]


def test_an_image_that_is_none_names_the_key_the_column_and_the_reason() -> None:
    told = reason({"q": "a", "photo": "nowhere.png"}, prompt="{q}", images=["photo"])
    assert told == "task.images: column 'photo': the image 'nowhere.png' cannot be read: No such file or directory"


def test_an_image_counts_as_an_image_and_not_as_its_characters() -> None:
    large = "data:image/png;base64," + "A" * 4_000_000
    images = task(prompt="{q}", images=["i"])
    tokens = images.build(json.dumps({"q": "a" * 400, "i": large}).encode()).tokens
    assert 1000 < tokens < 2000


# Members by column


def test_a_row_sets_its_own_members_and_keeps_the_runs_others() -> None:
    config: dict[str, Any] = {
        "prompt": "{q}",
        "params": {"temperature": 1, "top_p": 0.5},
        "per_row": {"temperature": "t", "seed": "s"},
    }
    assert body({"q": "a", "t": "0.2", "s": 4}, **config) == {
        "model": "m", "temperature": 0.2, "top_p": 0.5, "seed": 4, "messages": [{"role": "user", "content": "a"}],
    }  # fmt: skip
    assert body({"q": "a", "t": None}, **config)["temperature"] == 1
    assert task(prompt="{q}", params={"max_tokens": 9}).reply_tokens == 9
    assert task(prompt="{q}", params={"max_tokens": 9}, per_row={"max_tokens": "n"}).reply_tokens == 0


@pytest.mark.parametrize("api", ["chat.completions", "responses", "completions", "embeddings", "moderations"])
def test_another_model_is_asked_the_same_but_a_row_that_names_its_own_keeps_it(api: str) -> None:
    asked = task(api=api, prompt="{q}", per_row={"model": "best"}, params={"user": "u"})
    ask = asked.asking("other")
    ours = asked.build(b'{"q":"a","best":null}').body
    own = asked.build(b'{"q":"a","best":"m"}').body
    assert json.loads(ours) == json.loads(own), "the row names the very model of the run"
    assert json.loads(ask(ours)) == json.loads(ours) | {"model": "other"}
    assert ask(own) == own


def test_rows_that_must_name_their_model_are_told_when_they_do_not() -> None:
    asked = task(model=None, prompt="{q}", per_row={"model": "best"})
    assert json.loads(asked.build(b'{"q":"a","best":"x"}').body)["model"] == "x"
    with pytest.raises(InvalidRow, match="names no model in column 'best'"):
        asked.build(b'{"q":"a","best":""}')


def test_the_providers_model_is_put_in_where_the_run_has_none() -> None:
    for config in ({"prompt": "{q}"}, {"prompt": "{q}", "per_row": {"seed": "s"}}):
        asked = task(model=None, **config)
        assert json.loads(asked.asking("x")(asked.build(b'{"q":"a"}').body))["model"] == "x"


# The first rows, and rows that are none


@pytest.mark.parametrize(
    ("config", "column", "key"),
    [
        ({"messages": "chat"}, "chat", "task.messages"),
        ({"messages": [{"role": "user", "content": "{q}{z}"}]}, "z", "task.messages[0].content"),
        ({"prompt": "{q}", "images": ["photo"]}, "photo", "task.images"),
        ({"prompt": "{q}", "per_row": {"seed": "s"}}, "s", "task.per_row.seed"),
        ({"prompt": "{{ q }}{{ z }}", "template": "jinja"}, "z", "task.prompt"),
        ({"prompt": "{{ q }}", "system": "{{ z }}", "template": "jinja"}, "z", "task.system"),
    ],
)  # fmt: skip
def test_a_column_that_no_first_row_has_is_refused_by_its_key(config: dict[str, Any], column: str, key: str) -> None:
    opened = task(**config)
    with pytest.raises(InputError) as error:
        opened.check([b'{"q":1}', b"broken"], "in.jsonl")
    assert str(error.value) == f"in.jsonl: no column {column!r}, which {key} names; the columns are q"
    opened.check([b'{"q":1}', json.dumps({"q": 1, column: None}).encode()], "in.jsonl")


def test_what_a_template_itself_allows_to_be_missing_is_not_insisted_on() -> None:
    task(template="jinja", prompt="{{ q }}{{ z|default('') }}").check([b'{"q":1}'], "in.jsonl")


def test_a_row_that_lacks_a_column_of_messages_or_images_is_invalid_and_of_members_is_not() -> None:
    assert reason({}, messages="chat") == "the row has no column 'chat'"
    assert reason({"q": "a"}, prompt="{q}", images=["photo"]) == "the row has no column 'photo'"
    assert body({"q": "a"}, prompt="{q}", per_row={"seed": "s"})["messages"]


@pytest.mark.parametrize(
    "config",
    [{"prompt": "{q}"}, {"prompt": "{{ q }}", "template": "jinja"}, {"prompt": "{{ row }}", "template": "jinja"}],
)
def test_a_line_that_the_source_could_not_make_a_row_of_says_its_reason(config: dict[str, Any]) -> None:
    opened = task("id", **config)
    line = BROKEN + "line 7 has 4 fields, and the header 3: é".encode()
    with pytest.raises(InvalidRow, match=r"^line 7 has 4 fields, and the header 3: é$"):
        opened.build(line)
    assert opened.id_of(line) == opened.input_of(line) == b"null"
    for odd in (BROKEN, BROKEN + b"\xff" * 5000):
        with pytest.raises(InvalidRow) as error:
            opened.build(odd)
        assert 0 < len(str(error.value)) <= 1000


@given(st.binary(max_size=40) | st.dictionaries(st.sampled_from("qmi"), st.recursive(
    st.none() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3), max_leaves=4
)).map(lambda row: json.dumps(row).encode()))  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_no_line_does_worse_than_an_invalid_row(line: bytes) -> None:
    for opened in _TASKS:
        json.loads(opened.id_of(line))
        try:
            request = opened.build(line)
        except InvalidRow:
            continue
        json.loads(request.body)


_TASKS = [
    task("i", messages="m", images=["i"]),
    task("i", prompt="{{ q.x }}{{ row }}", template="jinja", per_row={"seed": "m"}),
]
