"""Which vectors are near to an earlier one: the first of each group is kept, all others name it.

Vectors are taken in their order. One whose cosine with a kept one is at least the threshold is a near-duplicate of the
nearest of those; any other is kept. So each is near to the one that it names, and not by way of a chain of others; and
what comes of the same vectors in the same order is the same.

The kept ones lie in an HNSW graph (usearch), in half precision, which costs a cosine some 0.00001. A search looks at a
few hundred of them, and may miss one; what it finds is held against the threshold by its cosine, to four digits. The
graph grows by one thread, so that it is the same every time.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rowmill.core import extras
from rowmill.core.errors import ConfigError, InputError

_TOGETHER = 1024  # vectors that are held against each other exactly, and searched for by several threads
_NEIGHBOURS = 16  # of each in the graph
_LOOKED_AT = 128  # vectors that are compared closely in a search, and before one is put in
_GRAPH_BYTES = 260  # of one in the graph, beside its numbers
_HALF = 2  # bytes of a number
_DIGITS = 4  # of a cosine: what half precision leaves of it


class Duplicate(NamedTuple):
    """A vector that is near to an earlier one. row, of: their numbers; of is kept. similarity: their cosine."""

    row: int
    of: int
    similarity: float


def bytes_of(vectors: int, dimensions: int) -> int:
    """Return the memory that so many kept vectors take."""
    return vectors * (dimensions * _HALF + _GRAPH_BYTES)


class NearDuplicates:
    """Takes vectors, and says which are near to an earlier one.

    kept: those that are near to none so far. without: numbers of those that are none, or have no direction; they are
    near to none.
    """

    def __init__(self, threshold: float) -> None:
        """`threshold`: the least cosine of two that are near. Raises `ConfigError`."""
        if not 0 < threshold <= 1:
            raise ConfigError(f"the threshold must be above 0 and at most 1, a cosine, and not {threshold}")
        extras.need("numpy", "near-duplicates")
        extras.need("usearch", "near-duplicates")
        self._threshold = threshold
        self._graph: Any = None
        self.dimensions = 0
        self.kept = 0
        self.without = 0

    def take(self, vectors: Sequence[bytes | None], rows: Sequence[int]) -> list[Duplicate]:
        """Take the next vectors, little-endian float32, with their numbers, which rise; None is no vector.

        Returns those that are near to an earlier one. Raises `InputError` where one is of another length.
        """
        found: list[Duplicate] = []
        for start in range(0, len(vectors), _TOGETHER):
            found += self._taken(vectors[start : start + _TOGETHER], rows[start : start + _TOGETHER])
        return found

    def _taken(self, vectors: Sequence[bytes | None], rows: Sequence[int]) -> list[Duplicate]:
        import numpy as np

        held = [(row, vector) for row, vector in zip(rows, vectors, strict=True) if vector]
        for row, vector in held:
            numbers = len(vector) // 4
            self.dimensions = self.dimensions or numbers
            if numbers != self.dimensions:
                raise InputError(
                    f"row {row} has a vector of {numbers} numbers, and those before it have {self.dimensions}: only "
                    "vectors of one model can be near to each other"
                )
        self.without += len(rows) - len(held)
        if not held:
            return []
        block = np.frombuffer(b"".join(vector for _, vector in held), "<f4").reshape(len(held), -1).astype(np.float32)
        with np.errstate(all="ignore"):  # what has no length, or an infinite one, has no direction
            block = block / np.linalg.norm(block.astype(np.float64), axis=1, keepdims=True)
        usable = np.isfinite(block).all(axis=1)
        numbers_of = np.array([row for row, _ in held], np.uint64)[usable]
        block = np.ascontiguousarray(block[usable], np.float32)
        self.without += len(held) - len(block)
        return self._grouped(np, block, numbers_of) if len(block) else []

    def _grouped(self, np: Any, block: Any, rows: Any) -> list[Duplicate]:
        """Say which of these are near to a kept one, those of their own block included, and keep the others."""
        nearest, similarity = self._search(np, block)
        among = block @ block.T
        kept: list[int] = []  # places in the block
        found: list[Duplicate] = []
        for place in range(len(block)):
            of, cosine = int(nearest[place]), float(similarity[place])
            if kept:
                own = among[place, kept]
                best = int(own.argmax())
                if own[best] > cosine:
                    of, cosine = int(rows[kept[best]]), float(own[best])
            if (rounded := round(cosine, _DIGITS)) >= self._threshold:
                found.append(Duplicate(int(rows[place]), of, min(rounded, 1.0)))
            else:
                kept.append(place)
        self._keep(block[kept], rows[kept])
        return found

    def _search(self, np: Any, block: Any) -> tuple[Any, Any]:
        """Return for each vector the number of a kept one that is near, and their cosine; -1 where there is none."""
        if not self.kept:
            return np.zeros(len(block), np.uint64), np.full(len(block), -1.0)
        nearest = np.asarray(self._graph.search(block, 1).keys).reshape(len(block), -1)[:, 0]
        there = np.asarray(self._graph.get(nearest), np.float32).reshape(len(block), -1)
        there /= np.linalg.norm(there, axis=1, keepdims=True)
        return nearest, np.einsum("ij,ij->i", block, there)

    def _keep(self, block: Any, rows: Any) -> None:
        if self._graph is None:
            from usearch.index import Index

            self._graph = Index(
                ndim=self.dimensions,
                metric="ip",
                dtype="f16",
                connectivity=_NEIGHBOURS,
                expansion_add=_LOOKED_AT,
                expansion_search=_LOOKED_AT,
            )
        if len(block):
            self._graph.add(rows, block, threads=1)
        self.kept += len(block)
