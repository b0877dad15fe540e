"""Tables as a type checker sees them: by what they can do, so that no library has to be there to check a program.

What is a table of pandas, polars, pyarrow (with stubs), DuckDB, Hugging Face or Ray comes back as the same type, and a
Series as the DataFrame that its own `to_frame` makes.
"""

from collections.abc import Iterator
from types import UnionType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, _SpecialForm

# What is written where a type may stand and is no class, as a type checker sees it: `A | B`; Optional, Literal, ...
if TYPE_CHECKING:
    from typing_extensions import TypeForm  # type checkers have it, whatever is installed

    # Annotated[...] is a special form to mypy, and to pyright something that only this takes.
    SpecialType: TypeAlias = UnionType | _SpecialForm | TypeForm[Any]
else:
    SpecialType = UnionType | _SpecialForm


class AnyFrame(Protocol):
    """A DataFrame, a relation of DuckDB, a Table."""

    @property
    def shape(self) -> Any:
        """Rows and columns."""

    @property
    def columns(self) -> Any:
        """Its columns, or their names."""


class NamedColumns(Protocol):
    """A Dataset of Hugging Face, or a Table."""

    @property
    def num_rows(self) -> Any:
        """Its rows."""

    @property
    def column_names(self) -> Any:
        """The names of its columns."""


class BlocksOfArrow(Protocol):
    """A Dataset of Ray."""

    def to_arrow_refs(self) -> Any:
        """Return where its blocks are."""


FrameT_co = TypeVar("FrameT_co", covariant=True)


class BatchesOf(Protocol[FrameT_co]):
    """A reader of record batches, which makes a Table."""

    def read_all(self) -> FrameT_co:
        """Return a Table of all that is left."""


class SeriesOf(Protocol[FrameT_co]):
    """A column by itself, which makes a DataFrame."""

    def to_frame(self) -> FrameT_co:
        """Return a DataFrame with this column alone."""

    def __iter__(self) -> Iterator[Any]:
        """Go through its values."""
