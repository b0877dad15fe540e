"""The options that a type checker knows are the keys of the configuration, no more and no fewer."""

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import pytest

from rowmill.core.config import Config, ProviderConfig, TaskConfig
from rowmill.core.config.sections import PriceConfig
from rowmill.interface.python import options

SECTIONS: dict[Any, tuple[type[msgspec.Struct], set[str]]] = {
    options.TaskOptions: (TaskConfig, {"schema"}),  # an argument by itself
    options.ProviderOptions: (ProviderConfig, {"model"}),  # of one provider it is the task's
    options.OneProvider: (ProviderConfig, set()),
    options.PriceOptions: (PriceConfig, set()),
    options.CheckpointOptions: (Config.__annotations__["checkpoint"], {"dir"}),  # made of run_dir
    **{
        get_type_hints(options.MapOptions)[name]: (Config.__annotations__[name], set())
        for name in ("client", "workers", "retry", "machine", "cluster", "cache", "budget", "batch", "notify")
    },
}


def words(annotation: Any) -> set[Any]:
    """Return the words that a key may be, however deep they stand in its type."""
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    return {word for part in get_args(annotation) for word in words(part)}


@pytest.mark.parametrize("typed", SECTIONS, ids=lambda typed: typed.__name__)
def test_a_section_has_its_keys_and_their_words(typed: Any) -> None:
    section, left_out = SECTIONS[typed]
    hints, fields = get_type_hints(typed), get_type_hints(section)
    assert set(hints) == set(section.__struct_fields__) - left_out
    for name, hint in hints.items():
        assert words(hint) == words(fields[name]), name
        assert (bool in (hint, *get_args(hint))) == (bool in (fields[name], *get_args(fields[name]))), name


def test_a_call_has_all_sections() -> None:
    hints = get_type_hints(options.MapOptions)
    assert set(Config.__struct_fields__) - set(hints) == {"input", "task", "output", "step"}
    assert hints["simulator"] == Mapping[str, Any]
