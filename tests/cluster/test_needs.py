"""What a run needs of a node's Python."""

from typing import Any

import pytest

from rowmill.cluster import needs
from rowmill.cluster.needs import needs_of
from rowmill.core import config as configuration
from rowmill.core.config import Config, TaskConfig
from rowmill.core.config.sections import InputConfig, ModelSchema, OutputConfig
from rowmill.core.rows import InputPart

LINES = [InputPart("in.jsonl", "lines")]
TABLES = [*LINES, InputPart("in.parquet", "parquet")]


def needed(parts: list[InputPart] = LINES, **tables: dict[str, Any]) -> list[str]:
    tree: dict[str, Any] = {
        "input": {"path": "in.jsonl"},
        "output": {"path": "out.jsonl", **tables.get("output", {})},
        "task": {"model": "m", "prompt": "{text}", **tables.get("task", {})},
        "cache": tables.get("cache", {}),
        "provider": [{"base_url": "http://127.0.0.1:1/v1"}],
    }
    return modules(configuration.parse(tree, "test.toml"), parts)


def modules(config: Config, parts: list[InputPart] = LINES) -> list[str]:
    return [need.module for need in needs_of(config, parts)]


def test_plain_lines_need_nothing_more() -> None:
    assert needed() == []
    assert needed(output={"format": "csv"}) == []


def test_what_is_large_and_not_for_everybody_is_needed_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert needed(TABLES) == ["pyarrow", "numpy"]
    assert needed(output={"path": "out.parquet", "format": "parquet"}) == ["pyarrow", "numpy"]
    assert needed(task={"api": "embeddings", "prompt": "{text}"}) == ["numpy"]
    assert needed(task={"documents": {"text": "file"}}) == ["pypdfium2"]
    assert needed(TABLES, cache={"use": "run"}) == ["pyarrow", "numpy", "sqlite3"]
    monkeypatch.setattr(needs, "find_spec", lambda _: None)
    assert needed(TABLES) == ["pyarrow"]


def test_the_module_of_a_type_is_needed_where_workers_import_it() -> None:
    for code, expected in ((None, ["shop.orders"]), (b"pickled", []), (b"", [])):
        model = ModelSchema("shop.orders:Order", {}, {}, wrapped=False, source="", code=code)
        config = Config(
            input=InputConfig(path="in.jsonl"), task=TaskConfig(schema=model), output=OutputConfig(path="out.jsonl")
        )
        assert modules(config) == expected
