"""Answers as instances of a model, and as columns of tables with the types of its fields."""

import dataclasses
import datetime as dt
import enum
import json
import uuid
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NewType, Optional, TypeVar

import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types
import pydantic
import pytest
from typing_extensions import TypedDict

from rowmill.core.config.sections import ReplyPart
from rowmill.core.errors import InputError
from rowmill.interface.python import answer_columns, frames
from rowmill.interface.python.answer_columns import Figure
from rowmill.interface.python.answers import Result, RowError
from rowmill.interface.python.instances import Instances
from rowmill.tasks import models

T = TypeVar("T")
Cents = NewType("Cents", int)


class Kind(enum.Enum):
    KITCHEN = "kitchen"
    GARDEN = "garden"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Maker(pydantic.BaseModel):
    name: str
    founded: dt.date


class Item(pydantic.BaseModel):
    kind: Kind
    level: Level
    maker: Maker
    price: Decimal
    share: float
    cents: Cents
    ok: bool
    sold: Optional[dt.date] = None  # noqa: UP045 - as many write it
    at: dt.datetime | None = None
    time: dt.time | None = None
    lasts: dt.timedelta | None = None
    grade: Literal["a", "b"] = "a"
    mixed: int | str = 1
    number: Annotated[int, pydantic.Field(alias="itemNumber")]
    tags: set[str] = set()

    @pydantic.field_validator("share")
    @classmethod
    def _part(cls, share: float) -> float:
        if share > 1:
            raise ValueError("is no part")
        return share

    @pydantic.computed_field  # type: ignore[prop-decorator]  # as pydantic has it
    @property
    def double(self) -> int:
        return self.number * 2


REPLY = {
    "kind": "garden", "level": 2, "maker": {"name": "m", "founded": "1999-01-02"}, "price": "1.50", "share": 0.5,
    "cents": 7, "ok": True, "sold": "2026-01-02", "at": "2026-01-02T03:04:05+01:00", "time": "03:04:05",
    "lasts": "PT90S", "mixed": "x", "itemNumber": 4, "tags": ["a"],
}  # fmt: skip
LESS = {name: value for name, value in REPLY.items() if name not in {"sold", "at", "time", "lasts", "tags"}}
COLUMNS = (
    "kind", "level", "maker", "price", "share", "cents", "ok", "sold", "at", "time", "lasts", "grade", "mixed",
    "number", "tags", "double",
)  # fmt: skip


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


class Wrapped(pydantic.RootModel[Maker]):
    pass


class Shouting(pydantic.BaseModel):
    n: int

    @pydantic.model_serializer
    def _serialized(self) -> dict[str, Any]:
        return {"n": f"{self.n}!"}


@dataclasses.dataclass
class Point:
    x: int
    y: float


class Label(TypedDict):
    label: str
    sure: bool


def instances(kind: Any, *, several: bool = False) -> Instances:
    return Instances(kind, models.of_type(kind, code=None), several=several)


def results(*outputs: Any) -> list[Result[Any]]:
    return [
        Result(index=index, output=msgspec.Raw(json.dumps(output).encode())) if output is not None
        else Result(index=index, error=RowError("timeout", "too late"))
        for index, output in enumerate(outputs)
    ]  # fmt: skip


def joined(
    rows: Any, kind: Any, outputs: Sequence[Any], *, parts: Sequence[ReplyPart | Figure] = (), prefix: str = ""
) -> Any:
    made = instances(kind)
    table = frames.source(rows)
    assert table is not None
    answer_columns.check_names(table.columns, (), prefix, parts, made)
    answered = [made.of(result) for result in results(*outputs)]
    return table.joined(answer_columns.answers(answered, (), parts=parts, prefix=prefix, instances=made))


def test_an_output_is_an_instance_and_a_row_that_failed_has_none() -> None:
    made = instances(Item)
    first, failed = [made.of(result) for result in results(REPLY, None)]
    assert isinstance(first.output, Item)
    assert (first.output.kind, first.output.number, first.output.price) == (Kind.GARDEN, 4, Decimal("1.50"))
    assert failed.output is None
    assert failed.error is not None
    assert failed.error.fault == "timeout"
    assert tuple(name for name, _ in made.columns) == COLUMNS


def test_what_only_the_program_refuses_is_a_failed_row_that_keeps_its_text() -> None:
    (refused,) = [instances(Item).of(result) for result in results({**REPLY, "share": 2})]
    assert refused.output is None
    assert refused.error is not None
    assert str(refused.error) == "invalid_output: /share: Value error, is no part"
    assert refused.error.reply is not None
    assert json.loads(refused.error.reply)["share"] == 2


def test_each_of_several_choices_is_an_instance() -> None:
    made = instances(Maker, several=True)
    maker = {"name": "m", "founded": "1999-01-02"}
    one, other = [made.of(result) for result in results([maker, None], [maker, {}])]
    assert one.output == [Maker(name="m", founded=dt.date(1999, 1, 2)), None]
    assert other.error is not None
    assert made.columns == ()


def test_a_pandas_frame_has_the_types_of_the_fields() -> None:
    frame = joined(pd.DataFrame({"a": [1, 2, 3]}, index=[5, 6, 7]), Item, [REPLY, None, LESS])
    assert list(frame.columns) == ["a", *COLUMNS, "error"]
    assert {name: str(frame[name].dtype) for name in ("level", "cents", "share", "ok", "number", "double")} == {
        "level": "Int64", "cents": "Int64", "share": "Float64", "ok": "boolean", "number": "Int64", "double": "Int64",
    }  # fmt: skip
    assert [str(frame[name].dtype) for name in ("sold", "at", "lasts")] == [
        "datetime64[s]", "datetime64[us, UTC]", "timedelta64[us]",
    ]  # fmt: skip
    first = frame.loc[5]
    assert (first["kind"], first["price"], first["time"]) == ("garden", Decimal("1.50"), dt.time(3, 4, 5))
    assert first["at"] == pd.Timestamp("2026-01-02T02:04:05Z")
    assert (first["sold"].year, first["lasts"]) == (2026, pd.Timedelta(90, "s"))
    assert first["maker"] == {"name": "m", "founded": dt.date(1999, 1, 2)}
    assert frame["sold"].isna().tolist() == [False, True, True]
    assert frame.loc[6, "error"] == "timeout: too late"


def test_polars_and_arrow_have_the_types_of_the_fields() -> None:
    columns = {"a": ["x", "y", "z"]}
    frame = joined(pl.DataFrame(columns), Item, [REPLY, None, LESS])
    table = joined(pa.table(columns), Item, [REPLY, None, LESS])
    assert {name: frame.schema[name] for name in ("kind", "level", "sold", "at", "time", "lasts", "maker", "tags")} == {
        "kind": pl.String, "level": pl.Int64, "sold": pl.Date, "at": pl.Datetime("us", "UTC"), "time": pl.Time,
        "lasts": pl.Duration("us"), "maker": pl.Struct({"name": pl.String, "founded": pl.Date}),
        "tags": pl.List(pl.String),
    }  # fmt: skip
    assert isinstance(frame.schema["price"], pl.Decimal)
    assert {name: table.schema.field(name).type for name in ("kind", "sold", "at", "time", "lasts")} == {
        "kind": pa.string(), "sold": pa.date32(), "at": pa.timestamp("us", "UTC"), "time": pa.time64("us"),
        "lasts": pa.duration("us"),
    }  # fmt: skip
    assert pa.types.is_decimal(table.schema.field("price").type)
    for name in COLUMNS:
        if name != "mixed":
            assert frame[name].to_list() == table[name].to_pylist(), name


def test_a_column_without_a_value_keeps_its_type() -> None:
    for outputs in ([None], []):
        frame = joined(pl.DataFrame({"a": ["x"] * len(outputs)}, schema={"a": pl.String}), Item, outputs)
        assert (frame.schema["sold"], frame.schema["number"], frame.schema["kind"]) == (pl.Date, pl.Int64, pl.String)
        assert joined(pa.table({"a": ["x"] * len(outputs)}), Item, outputs).schema.field("sold").type == pa.date32()
        assert len(joined(pd.DataFrame({"a": ["x"] * len(outputs)}), Item, outputs)) == len(outputs)


@pytest.mark.parametrize(
    ("kind", "reply", "columns"),
    [
        (Point, {"x": 1, "y": 2}, {"x": 1, "y": 2.0}),
        (Label, {"label": "a", "sure": True}, {"label": "a", "sure": True}),
        (Page[Maker], {"items": [{"name": "m", "founded": "1999-01-02"}]},
         {"items": [{"name": "m", "founded": dt.date(1999, 1, 2)}]}),
        (Wrapped, {"name": "m", "founded": "1999-01-02"}, {"name": "m", "founded": dt.date(1999, 1, 2)}),
        # What is no object is one column.
        (list[Maker], {"value": [{"name": "m", "founded": "1999-01-02"}]},
         {"output": [{"name": "m", "founded": dt.date(1999, 1, 2)}]}),
        (Kind, {"value": "garden"}, {"output": "garden"}),
        (Literal["yes", "no"], {"value": "no"}, {"output": "no"}),
        (bool, {"value": True}, {"output": True}),
    ],
)  # fmt: skip
def test_whatever_the_type_its_values_become_columns(kind: Any, reply: Any, columns: dict[str, Any]) -> None:
    expected = {"a": "x", **columns, "error": None}
    assert joined(pl.DataFrame({"a": ["x"]}), kind, [reply]).row(0, named=True) == expected
    assert joined(pa.table({"a": ["x"]}), kind, [reply]).to_pylist() == [expected]
    assert joined(pd.DataFrame({"a": ["x"]}), kind, [reply]).to_dict("records") == [expected]


def test_a_serializer_of_the_users_own_loses_nothing() -> None:
    """It gives out what its field's type does not say: after everything has been paid for that is no reason to fail."""
    for rows in (pd.DataFrame({"a": ["x"]}), pl.DataFrame({"a": ["x"]}), pa.table({"a": ["x"]})):
        made = joined(rows, Shouting, [{"n": 7}])
        assert "7!" in str(next(iter(made["n"])))


class Places(pydantic.BaseModel):
    id: uuid.UUID
    url: pydantic.HttpUrl
    path: Path | None
    address: pydantic.IPvAnyAddress
    raw: bytes
    both: list[pydantic.HttpUrl]


def test_what_is_no_value_of_a_table_is_the_text_that_it_is() -> None:
    reply = {
        "id": str(uuid.UUID(int=1)), "url": "http://a/b", "path": "x/y", "address": "::1", "raw": "ab",
        "both": ["http://a/"],
    }  # fmt: skip
    expected = {"a": "x", **reply, "raw": b"ab", "error": None}
    assert joined(pl.DataFrame({"a": ["x"]}), Places, [reply]).row(0, named=True) == expected
    assert joined(pa.table({"a": ["x"]}), Places, [reply]).to_pylist() == [expected]
    assert joined(pd.DataFrame({"a": ["x"]}), Places, [reply]).to_dict("records") == [expected]
    kinds = dict(instances(Places).columns)
    assert [kinds[name] for name in ("id", "url", "path", "address")] == ["string"] * 4


def test_times_with_and_without_a_zone_are_kept() -> None:
    class When(pydantic.BaseModel):
        at: dt.datetime

    outputs = [{"at": "2026-01-02T03:04:05"}, {"at": "2026-01-02T03:04:05Z"}]
    for rows in (pd.DataFrame({"a": ["x", "y"]}), pl.DataFrame({"a": ["x", "y"]}), pa.table({"a": ["x", "y"]})):
        cells = [str(cell) for cell in joined(rows, When, outputs)["at"]]
        assert [cell.replace("T", " ")[:19].lstrip('"') for cell in cells] == ["2026-01-02 03:04:05"] * 2


def test_figures_are_columns_too_and_names_that_are_there_are_refused() -> None:
    made = joined(pl.DataFrame({"a": ["x"]}), Label, [{"label": "l", "sure": False}], parts=["usage", "cost"])
    assert made.schema["cost"] == pl.Float64
    assert made.columns == ["a", "label", "sure", "error", "usage", "cost"]
    with pytest.raises(InputError, match="a column 'label' already"):
        joined(pl.DataFrame({"label": ["x"]}), Label, [{"label": "l", "sure": False}])
    assert "new_label" in joined(pl.DataFrame({"label": [""]}), Label, [None], prefix="new_").columns
