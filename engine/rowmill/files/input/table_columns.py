"""The columns of tables: the JSON that their values become, and the Arrow type that they have in a Parquet output.

Of several files the columns are those of all, in the order in which they first come. Where files differ in a column's
type, it gets the type that holds both (whole numbers of 32 and 64 bits, decimals of other digits, a column of nulls),
or becomes JSON text where there is none that loses nothing.
"""

from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

from rowmill.core.rows import Column

_PLAIN = (pa.string(), pa.int64(), pa.float64(), pa.bool_())


def columns_of(*schemas: pa.Schema) -> tuple[Column, ...]:
    """Return the columns of tables by the JSON values that they become.

    What becomes text (dates, decimals, bytes) is a "string". Unsigned integers of 64 bits are "json": half of them are
    no int64.
    """
    kinds: dict[str, Any] = {}
    whole: set[str] = set()  # columns of whole numbers, in some file: those of them that no float holds are told
    for schema in schemas:
        for field in schema:
            kind = _stored(field.type)
            kinds[field.name] = _joined(kinds.get(field.name, kind), kind)
            if pa.types.is_integer(kind):
                whole.add(field.name)
    return tuple(_column(name, kind, checked=name in whole) for name, kind in kinds.items())


def _column(name: str, kind: pa.DataType | None, *, checked: bool) -> Column:
    if kind is None:
        return Column(name, "json")
    if isinstance(kind, pa.UuidType | pa.JsonType):
        return Column(name, "string")
    kept = _kept(kind)
    mixed = checked and pa.types.is_floating(kind)
    plain = kept is None or (kept in _PLAIN and not mixed)
    arrow = b"" if plain else pa.schema([pa.field("", kept)]).serialize().to_pybytes()
    return Column(name, "json" if mixed else _json_type(kind), arrow)


def _json_type(kind: pa.DataType) -> Any:  # one of the literals of Column.type
    types = pa.types
    if types.is_boolean(kind):
        return "bool"
    if types.is_integer(kind):
        return "json" if types.is_uint64(kind) else "int64"
    if types.is_floating(kind):
        return "double"
    texts = (
        types.is_string, types.is_large_string, types.is_string_view, types.is_binary, types.is_large_binary,
        types.is_binary_view, types.is_fixed_size_binary, types.is_decimal, types.is_date, types.is_time,
        types.is_timestamp, types.is_duration,
    )  # fmt: skip
    return "string" if any(is_text(kind) for is_text in texts) else "json"


def _stored(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values, however they are encoded."""
    if isinstance(kind, pa.Bool8Type):
        return pa.bool_()
    if isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.UuidType | pa.JsonType):
        return _stored(kind.storage_type)
    encoded = pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind)
    return _stored(kind.value_type) if encoded else kind


def _joined(one: pa.DataType | None, other: pa.DataType) -> pa.DataType | None:
    """Return the type that holds the values of both; None where there is none."""
    if one is None or one.equals(other):
        return one
    types = pa.types
    if types.is_timestamp(one) and types.is_timestamp(other) and (one.tz is None) == (other.tz is None):
        return pa.timestamp(max(one.unit, other.unit, key=["s", "ms", "us", "ns"].index), one.tz)
    binary = [types.is_binary(kind) or types.is_large_binary(kind) for kind in (one, other)]
    if any(binary) and not all(binary) and not (types.is_null(one) or types.is_null(other)):
        return None
    pair = [pa.schema([pa.field("", kind)]) for kind in (one, other)]
    try:
        both = pa.unify_schemas(pair, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return None
    if types.is_int64(both) and (types.is_uint64(one) or types.is_uint64(other)):
        return None
    return both


def _kept(kind: pa.DataType) -> pa.DataType | None:
    """Return the type as a Parquet file has it; None for one that it has not, or that JSON does not give back."""
    types = pa.types
    kind = _stored(kind)
    if types.is_struct(kind):
        children = [_kept(field.type) for field in kind]
        names = [field.name for field in kind]
        if None in children or not names or len(set(names)) < len(names):
            return None
        return pa.struct([pa.field(name, child) for name, child in zip(names, children, strict=True)])
    if types.is_map(kind):
        key, item = _kept(kind.key_type), _kept(kind.item_type)
        simple = key is not None and not types.is_nested(key) and not types.is_null(key)
        return pa.map_(key, item) if simple and item is not None else None
    if types.is_list(kind) or types.is_list_view(kind):
        return None if (element := _kept(kind.value_type)) is None else pa.list_(element)
    if types.is_large_list(kind) or types.is_large_list_view(kind):
        return None if (element := _kept(kind.value_type)) is None else pa.large_list(element)
    if types.is_fixed_size_list(kind):
        return None if (element := _kept(kind.value_type)) is None else pa.list_(element, kind.list_size)
    if types.is_decimal(kind):
        return kind if types.is_decimal256(kind) else pa.decimal128(kind.precision, kind.scale)
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_date64(kind):
        return pa.date32()
    if types.is_binary_view(kind):
        return pa.binary()
    known = (
        types.is_boolean, types.is_integer, types.is_floating, types.is_string, types.is_binary, types.is_large_binary,
        types.is_fixed_size_binary, types.is_date, types.is_time, types.is_timestamp, types.is_duration, types.is_null,
    )  # fmt: skip
    return kind if any(is_known(kind) for is_known in known) else None
