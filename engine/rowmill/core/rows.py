"""Rows and what they lie in: files and parts of the input, shards, the columns of an output."""

from typing import Literal

import msgspec


class InputFile(msgspec.Struct, frozen=True):
    """One file of the user's input as it was when the run was planned."""

    path: str  # or its URL
    size: int  # bytes
    mtime_ns: int  # 0 where nothing tells


class InputPart(msgspec.Struct, frozen=True, array_like=True):
    """One local file of the input as workers read it. Its rows follow those of the part before."""

    path: str
    kind: Literal["lines", "parquet", "arrow"]  # "lines": one JSON object a line, whatever the user's file was


class Shard(msgspec.Struct, frozen=True, array_like=True):
    """A contiguous range of input rows, all of one part: the unit of assignment, checkpoint and merge."""

    number: int  # from 0, in input order
    first_row: int  # index of its first row, from 0
    rows: int
    start: int  # byte offset of its first row in its part; in Parquet and Arrow files the row's number there
    end: int  # byte offset, or row number, after its last row
    crc: int  # CRC-32 of its bytes, or of what tells that a file is the same: a changed input is found by shard
    part: int = 0  # place of its file among the input's parts


class Column(msgspec.Struct, frozen=True, array_like=True):
    """A column of a table."""

    name: str
    type: Literal["string", "int64", "double", "bool", "json"] = "string"  # "json": any value, as JSON text
    arrow: bytes = b""  # the type that a Parquet output has for it, where that says more: a schema of one field


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What an output table holds beside the columns that every run has."""

    input_columns: tuple[Column, ...] = ()  # of the input, where they are kept
    fields: tuple[Column, ...] = ()  # of a structured reply: the top members of its schema
    vectors: bool = False  # the output is a vector: base64 of little-endian float32


class StepOfRun(msgspec.Struct, frozen=True, kw_only=True):
    """One of several steps, as a worker has to know it that is at work on it."""

    name: str
    previous: str | None  # whose answers it asks about; None: it is the first
    last: bool  # its answers are the output's
    where: str | None  # which of its answered rows go on; None: all
    fields: tuple[str, ...] | None  # members of its answers, each a column of the next step; None: the answer is one


# A line that begins so is no row of JSON, but a text: why the source could not make one of the row. The row itself, as
# far as it could be read, may follow behind another one.
BROKEN = b"\0"


# Lines between two steps that begin so are of rows that the step before let nothing more be asked of: one that has
# failed, with how it did as JSON behind it, and one that its condition has left out.
ENDED = b"\1"
LEFT_OUT = b"\2"
NO_LINE = b"null"  # the output line of a row that was left out
