"""Types as schemas of replies: what pydantic takes becomes a JSON Schema that is asked for, and has the last word."""

import dataclasses
import datetime as dt
import enum
import importlib
import json
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NewType, TypeVar

import jsonschema_rs
import msgspec
import pydantic
import pydantic.v1
import pytest
from typing_extensions import TypedDict

from rowmill.core.config import TaskConfig, fingerprint, parse
from rowmill.core.config.sections import ModelSchema
from rowmill.core.errors import ConfigError, InvalidOutput
from rowmill.store.cache.keys import salt
from rowmill.tasks import models, pickled_types, schema
from rowmill.tasks.chat import Chat
from rowmill.tasks.packing import PackedTask
from rowmill.tasks.pickled_types import pickled
from rowmill.tasks.plain import PlainTask
from rowmill.tasks.strict_form import strict_form
from rowmill.tasks.structured import StructuredTask, with_format

T = TypeVar("T")
Cents = NewType("Cents", int)


class Kind(enum.Enum):
    KITCHEN = "kitchen"
    GARDEN = "garden"


class Maker(pydantic.BaseModel):
    name: str
    since: dt.date | None = None


class Item(pydantic.BaseModel):
    """A thing on sale."""

    kind: Kind
    maker: Maker
    price: Decimal
    cents: Cents = Cents(0)
    grade: Literal["a", 1] = "a"
    tags: list[Annotated[str, pydantic.Field(min_length=2)]] = []
    number: int = pydantic.Field(alias="itemNumber", ge=1)

    @pydantic.field_validator("price")
    @classmethod
    def _positive(cls, price: Decimal) -> Decimal:
        if price <= 0:
            raise ValueError("must be above 0")
        return price


class Tree(pydantic.BaseModel):
    value: int
    below: list["Tree"] = []


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


class Names(pydantic.RootModel[list[str]]):
    pass


class Odd(pydantic.BaseModel):
    n: int

    @pydantic.model_validator(mode="after")
    def _odd(self) -> "Odd":
        if self.n == 4:
            raise SystemExit("is no reason to end a worker")
        return {1: self, 3: self}[self.n]  # a KeyError is no word of pydantic's


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0


class Label(TypedDict):
    label: str
    sure: bool


ITEM = {"kind": "garden", "maker": {"name": "m"}, "price": "1.50", "itemNumber": 7}


def made(kind: Any) -> ModelSchema:
    return models.of_type(kind, code=pickled(kind))


def reader(kind: Any) -> models.ModelReader:
    found = models.reader(made(kind))
    assert found is not None
    return found


def read(kind: Any, reply: Any) -> Any:
    return reader(kind).instance(json.dumps(reply).encode())


@pytest.mark.parametrize(
    ("kind", "reply", "value"),
    [
        (Item, ITEM, Item(kind=Kind.GARDEN, maker=Maker(name="m"), price=Decimal("1.50"), itemNumber=7)),
        (Tree, {"value": 1, "below": [{"value": 2}]}, Tree(value=1, below=[Tree(value=2)])),
        (Page[Maker], {"items": [{"name": "m", "since": "2026-01-02"}]},
         Page[Maker](items=[Maker(name="m", since=dt.date(2026, 1, 2))])),
        (Point, {"x": 1}, Point(1)),
        (Label, {"label": "a", "sure": True}, {"label": "a", "sure": True}),
        (dict[str, int], {"a": 1}, {"a": 1}),
        # What is no object stands in one.
        (Names, {"value": ["a"]}, Names(["a"])),
        (list[Maker], {"value": [{"name": "m"}]}, [Maker(name="m")]),
        (Kind, {"value": "garden"}, Kind.GARDEN),
        (Literal["yes", "no"], {"value": "no"}, "no"),
        (Maker | Point, {"value": {"x": 2}}, Point(2)),
        (dt.date, {"value": "2026-01-02"}, dt.date(2026, 1, 2)),
        (int | None, {"value": None}, None),
    ],
)  # fmt: skip
def test_a_reply_is_read_as_the_type(kind: Any, reply: Any, value: Any) -> None:
    found = made(kind)
    for document in (found.document, found.asked):
        assert document["type"] == "object"
        jsonschema_rs.validator_for(document)
    assert jsonschema_rs.is_valid(found.document, reply)
    assert read(kind, reply) == value


@pytest.mark.parametrize(
    ("kind", "reply", "said"),
    [
        (Item, {**ITEM, "price": "-1"}, "/price: Value error, must be above 0"),
        (Item, {**ITEM, "maker": {}}, "/maker/name: Field required"),
        (list[Maker], {"value": [{"name": "m"}, {}]}, "/value/1/name: Field required"),
        (Odd, {"n": 2}, "Odd cannot read it: KeyError: 2"),
        (Odd, {"n": 4}, "Odd cannot read it: SystemExit: is no reason to end a worker"),
    ],
)
def test_what_the_type_refuses_is_told_in_a_line(kind: Any, reply: Any, said: str) -> None:
    problem = reader(kind).problem(json.dumps(reply).encode())
    assert problem is not None
    assert problem.endswith(said)
    with pytest.raises(ValueError, match=re.escape(said)):
        read(kind, reply)


@pytest.mark.parametrize("kind", [Item, Tree, Page[Maker], Point, Label, Names, list[Item], Kind, Maker | Point])
def test_what_is_asked_is_strict_where_a_strict_schema_can_say_it(kind: Any) -> None:
    found = made(kind)
    assert schema.is_strict(found.asked)
    assert schema.response_format(found.asked)["json_schema"]["strict"]
    assert "default" not in json.dumps(found.asked)
    assert "minLength: 2" in json.dumps(made(Item).asked), "what strict mode does not know is told in words"
    # Whatever fits what is asked fits what replies are held against.
    full = {**ITEM, "maker": {"name": "m", "since": None}, "cents": 1, "grade": 1, "tags": ["ab"]}
    assert jsonschema_rs.is_valid(made(Item).asked, full)
    assert jsonschema_rs.is_valid(made(Item).document, full)


@pytest.mark.parametrize(
    "document",
    [
        {"type": "object", "properties": {"a": {}}},
        {"type": "object", "properties": {"a": {"type": "array"}}},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "object", "properties": {"a": {"type": "object", "additionalProperties": True}}},
    ],
)
def test_what_no_strict_schema_can_say_is_asked_as_it_is(document: dict[str, Any]) -> None:
    assert strict_form(document) is document


def test_an_enum_of_values_of_several_types_is_asked_for() -> None:
    odd = enum.Enum("odd", {"ONE": 1, "SOME": (1, 2), "NAMED": {"a": 1}})
    found = models.of_type(odd, code=None)
    assert found.document["properties"]["value"]["enum"] == [1, [1, 2], {"a": 1}]
    assert found.asked == found.document
    plain = enum.Enum("plain", {"ONE": 1, "WORD": "b", "HALF": 0.5, "NO": False})
    assert models.of_type(plain, code=None).asked["properties"]["value"]["type"] == [
        "boolean", "integer", "number", "string",
    ]  # fmt: skip


def test_patterns_and_formats_that_no_provider_takes_are_left_out_of_what_is_asked() -> None:
    asked = strict_form(
        {
            "type": "object",
            "properties": {
                "a": {"type": "string", "pattern": "^(?!x)y$"},
                "b": {"type": "string", "format": "uri"},
                "c": {"oneOf": [{"$ref": "#/$defs/D"}, {"type": "null"}], "discriminator": {}},
                "d": {"$ref": "#/$defs/D", "description": "words", "default": None},
            },
            "$defs": {"D": {"type": "string", "format": "date", "pattern": "^2"}},
        }
    )
    assert asked["properties"] == {
        "a": {"type": "string"},
        "b": {"type": "string"},
        "c": {"anyOf": [{"$ref": "#/$defs/D"}, {"type": "null"}]},
        "d": {"anyOf": [{"$ref": "#/$defs/D"}], "description": "words"},
    }
    assert asked["$defs"] == {"D": {"type": "string", "format": "date", "pattern": "^2"}}
    assert asked["required"] == ["a", "b", "c", "d"]


class Old(pydantic.v1.BaseModel):
    n: int


class Called(pydantic.BaseModel):
    call: Callable[[], int]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Old, "is a model of pydantic 1"),
        (Maker(name="m"), "an instance of .*:Maker is no type; pass Maker itself"),
        (Point(1), "an instance of .*:Point is no type; pass Point itself"),
        (7, "7 is no type that pydantic takes"),
        (len, "it is a function; pass what it returns"),
        ([Maker], r"is a list and no type; for a list of these pass list\[Maker\]"),
        (threading.Lock, "is no type that pydantic takes"),
        (Called, "cannot be written as JSON Schema"),
    ],
)
def test_what_is_no_type_is_refused_in_a_line(kind: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        made(kind)
    assert "\n" not in str(error.value)


# By name


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in ("shop", "broken", "script"):
        sys.modules.pop(name, None)


def test_a_model_is_found_by_its_name_in_the_current_directory(shop: Path) -> None:
    (shop / "shop.py").write_text(
        "import pydantic as p\nclass Deep:\n    class Item(p.BaseModel):\n        n: int\nPLAIN = {'type': 'object'}\n"
    )
    found = models.by_name("shop:Deep.Item")
    assert isinstance(found, ModelSchema)
    assert (found.name, found.code) == ("shop:Deep.Item", None)
    assert found.document["properties"] == {"n": {"title": "N", "type": "integer"}}
    resolved = schema.resolved(TaskConfig(schema="shop:Deep.Item"))
    assert resolved.schema == found
    assert resolved.reply_schema == found.document
    assert schema.resolved(TaskConfig(schema="shop:PLAIN")).schema == {"type": "object"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere:Item", "there is no module nowhere; write it as package.module:Model"),
        ("shop:Itme", "module shop has no Itme; did you mean Item?"),
        ("broken:Item", "cannot be imported: ZeroDivisionError: division by zero"),
        ("script:Item", "cannot be imported: SystemExit: 3"),
        ("shop:json", "is no type that pydantic takes"),
    ],
)
def test_a_name_that_leads_nowhere_is_told_in_a_line(shop: Path, name: str, said: str) -> None:
    (shop / "shop.py").write_text("import json\nItem = int\n")
    (shop / "broken.py").write_text("1 / 0\n")
    (shop / "script.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(ConfigError, match=r"^task\.schema: ") as error:
        models.by_name(name)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_whose_name_is_like_a_models_is_the_file(shop: Path) -> None:
    (shop / "a:b").write_text('{"type": "object"}')
    assert schema.resolved(TaskConfig(schema="a:b")).schema == {"type": "object"}
    assert not models.is_name("schemas/ticket.json")
    assert not models.is_name("C:/x.json")


def test_no_file_can_hold_what_a_program_pickled() -> None:
    tree = {
        "input": {"path": "in.jsonl"}, "output": {"path": "out.jsonl"},
        "task": {"model": "m", "prompt": "{a}", "schema": ["n", {}, {}, False, "s", "aWQ="]},
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r'task\.schema: must be the path of a schema, .* "package\.module:Model"'):
        parse(tree, "c.toml")


# In other processes

PROGRAM = """
import sys, types
import pydantic
module = types.ModuleType("made_here")
sys.modules["made_here"] = module
exec('''
import pydantic
class Far(pydantic.BaseModel):
    n: int
    @pydantic.field_validator("n")
    @classmethod
    def check(cls, n):
        if n > LIMIT: raise ValueError("too much")
        return n
LIMIT = 3
''', module.__dict__)
class Near(pydantic.BaseModel):
    far: list[module.Far]
from rowmill.tasks.pickled_types import pickled
sys.stdout.buffer.write(pickled(Near))
"""


def test_a_model_of_a_program_reaches_another_process_with_its_validators() -> None:
    """That of `__main__`, and of a module that nobody else could import."""
    code = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True).stdout
    found = models.reader(ModelSchema("n", {}, {}, wrapped=False, source="", code=code))
    assert found is not None
    assert found.problem(b'{"far":[{"n":3}]}') is None
    assert found.problem(b'{"far":[{"n":4}]}') == "/far/0/n: Value error, too much"
    assert "made_here" not in sys.modules


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
def test_dataclasses_and_typed_dicts_of_a_program_reach_another_process(future: str) -> None:
    """Their defaults are told by identity, and their annotations may be texts that name what only the program has."""
    program = f"""{future}
import dataclasses, sys
from typing_extensions import TypedDict
from rowmill.tasks import models
from rowmill.tasks.pickled_types import pickled
@dataclasses.dataclass
class Point:
    x: int
    y: list[int] = dataclasses.field(default_factory=list)
class Label(TypedDict):
    points: list["Point"]
schemas = [models.of_type(kind, code=pickled(kind)) for kind in (Label, list[Label], Point)]
assert [models.kind_of(each) for each in schemas] == [Label, list[Label], Point]
assert dataclasses.fields(Point)[0].default is dataclasses.MISSING, "nothing is written over"
import msgspec
sys.stdout.buffer.write(msgspec.msgpack.encode(schemas))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    first, second, third = msgspec.msgpack.decode(done.stdout, type=list[ModelSchema])
    for found, reply, wrong in (
        (first, {"points": [{"x": 1}]}, {"points": [{}]}),
        (second, {"value": [{"points": [{"x": 1}]}]}, {"value": [{"points": [{"x": "no"}]}]}),
        (third, {"x": 1, "y": [2]}, {"y": []}),
    ):
        read_by = models.reader(found)
        assert read_by is not None
        assert read_by.problem(json.dumps(reply).encode()) is None
        assert "/x: " in (read_by.problem(json.dumps(wrong).encode()) or "")


def test_a_model_that_cannot_be_taken_along_is_left_to_its_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(kind: Any) -> bytes:
        raise pickle.PicklingError(kind)

    monkeypatch.setattr(pickled_types, "_dumped", refused)
    found = made(Item)
    assert found.code == b""
    assert models.reader(found) is None
    task = StructuredTask(
        PlainTask(Chat(), with_format(TaskConfig(model="m", prompt="{a}", schema=found)), None), found
    )
    assert task.parse(completion({**ITEM, "price": "-1"})).output, "its JSON Schema has the word"


def test_what_a_worker_cannot_load_is_told() -> None:
    with pytest.raises(ConfigError, match=r"n cannot be loaded by a worker: .*; define it in a module of its own"):
        models.reader(ModelSchema("n", {}, {}, wrapped=False, source="", code=b"junk"))


# In the tasks


def completion(content: Any) -> bytes:
    choice = {"index": 0, "message": {"content": json.dumps(content)}, "finish_reason": "stop"}
    return json.dumps({"model": "m-1", "choices": [choice]}).encode()


def test_the_validators_of_a_model_make_a_reply_invalid_that_its_schema_takes() -> None:
    found = made(Item)
    config = TaskConfig(model="m", prompt="{text}", schema=found)
    task = StructuredTask(PlainTask(Chat(), with_format(config), None), found)
    request = task.build(b'{"text":"x"}')
    sent = json.loads(request.body)["response_format"]["json_schema"]
    assert sent["strict"]
    assert sent["schema"] == found.asked
    assert task.parse(completion(ITEM)).output == json.dumps(ITEM).encode(), "the output is what the model wrote"
    with pytest.raises(InvalidOutput, match="/price: Value error, must be above 0") as invalid:
        task.parse(completion({**ITEM, "price": "-1"}))
    assert b"must be above 0" in task.again(request, invalid.value).body
    with pytest.raises(InvalidOutput, match="itemNumber"):
        task.parse(completion({"kind": "garden"}))


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt, GeneratorExit, RecursionError])
def test_whatever_a_validator_raises_is_the_replys_and_ends_no_worker(raised: type[BaseException]) -> None:
    def refuse(value: int) -> int:
        raise raised

    found = reader(Annotated[int, pydantic.AfterValidator(refuse)]).problem(b'{"value":1}')
    assert found is not None
    assert f"cannot read it: {raised.__name__}" in found


def test_what_is_no_object_may_come_without_the_object_that_it_was_asked_in() -> None:
    """Of servers that know no schemas."""
    found = made(list[Maker])
    config = TaskConfig(model="m", prompt="{text}", schema=found)
    tasks = [StructuredTask(PlainTask(Chat(), with_format(config), None), found, strict=each) for each in (False, True)]
    whole = b'{"value":[{"name": "m"}]}'
    assert tasks[0].parse(completion([{"name": "m"}])).output == whole
    assert json.loads(tasks[0].parse(completion(json.loads(whole))).output) == json.loads(whole)
    with pytest.raises(InvalidOutput, match='is not of type "object"'):
        tasks[0].parse(completion([{"nam": "m"}]))
    with pytest.raises(InvalidOutput, match='is not of type "object"'):
        tasks[1].parse(completion([{"name": "m"}]))


def test_rows_of_a_pack_are_held_against_the_model_one_by_one() -> None:
    found = made(Item)
    config = TaskConfig(model="m", prompt="{text}", schema=found, rows_per_request=5)
    task = PackedTask(PlainTask(Chat(), with_format(config), None), config)
    requests = [task.build(b'{"text":"x"}') for _ in range(2)]
    assert json.loads(task.pack(requests).body)["response_format"]["json_schema"]["strict"]
    first, second = task.unpack(
        completion({"answers": [{"id": "1", "answer": ITEM}, {"id": "2", "answer": {**ITEM, "price": 0}}]}), 2
    )
    assert not isinstance(first, InvalidOutput)
    assert isinstance(second, InvalidOutput)
    assert "must be above 0" in str(second)


def test_a_run_is_the_same_by_the_schema_and_a_kept_reply_by_the_model_too() -> None:
    tree = {
        "input": {"path": "in.jsonl"}, "output": {"path": "out.jsonl"},
        "task": {"model": "m", "prompt": "{a}", "schema": made(Item).document},
    }  # fmt: skip
    plain = parse(tree, "c.toml")

    def with_schema(found: ModelSchema) -> Any:
        return msgspec.structs.replace(plain, task=msgspec.structs.replace(plain.task, schema=found))

    found = made(Item)
    moved = msgspec.structs.replace(found, source="other")
    assert fingerprint(plain) == fingerprint(with_schema(found)) == fingerprint(with_schema(moved))
    assert len({salt(plain), salt(with_schema(found)), salt(with_schema(moved))}) == 3
    assert salt(with_schema(found)) == salt(with_schema(msgspec.structs.replace(found, code=b"another pickle")))


WRITTEN = """
import dataclasses
from typing import Annotated, NewType
import pydantic

def even(value: int) -> int:
    return value  # checked {}

Even = Annotated[int, pydantic.AfterValidator(even)]

class Inner(pydantic.BaseModel):
    n: int

    @pydantic.field_validator("n")
    @classmethod
    def _checked(cls, n: int) -> int:
        return n  # checked {}

class Outer(pydantic.BaseModel):
    inner: Inner | None = None

class Numbers(pydantic.BaseModel):
    each: list[Even]

@dataclasses.dataclass
class Holder:
    inner: "list[Inner]"

Many = list[Inner]
Named = NewType("Named", Inner)
Plain = list[int]
"""


@pytest.mark.parametrize("name", ["Inner", "Outer", "Numbers", "Holder", "Many", "Named"])
def test_a_reply_is_kept_for_the_validators_of_all_that_a_type_is_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    found: list[ModelSchema] = []
    for number in (1, 1, 2):
        module = f"written_{name.lower()}_{len(found)}"  # of the same source by another name
        (tmp_path / f"{module}.py").write_text(WRITTEN.replace("{}", str(number)))
        made_of = importlib.import_module(module)
        found.append(models.of_type(getattr(made_of, name), "m:M", code=None))
        assert models.of_type(made_of.Plain, "m:M", code=None).source == models.of_type(int, "m:M", code=None).source
    first, again, other = found
    assert first.identity == again.identity
    assert first.document == other.document
    assert first.identity != other.identity
