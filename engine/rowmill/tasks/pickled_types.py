"""Types of a program as bytes that its workers make the same types of: by value where they could not import them.

A child is never given the program's own script to import, which would run it once more.
"""

import dataclasses
import io
import pickletools
import re
import sys
import typing
from collections.abc import Iterator
from typing import Any

_pickled_here: dict[bytes, Any] = {}  # types of this program by their pickles


def pickled(kind: Any) -> bytes:
    """Pickle a type for other processes, by value where they could not import it; empty where that cannot be."""
    import cloudpickle  # type: ignore[import-untyped]  # it has no types

    lent: list[Any] = []
    try:
        code = _dumped((kind, _names(kind)))
        for name in sorted(set(_out_of_reach(code))):
            cloudpickle.register_pickle_by_value(sys.modules[name])
            lent.append(sys.modules[name])
        if lent:
            code = _dumped((kind, _names(kind)))
    except Exception:  # noqa: BLE001 - a lock, a connection, whatever its validators hold
        return b""
    finally:
        for module in lent:
            cloudpickle.unregister_pickle_by_value(module)
    _pickled_here[code] = kind
    return code


def _names(kind: Any) -> dict[str, Any]:
    """Return what the annotations of dataclasses and the like name as texts: in another process they name nothing."""
    names: dict[str, Any] = {}
    seen: list[Any] = []
    waiting: list[tuple[Any, dict[str, Any]]] = [(kind, {})]  # with what the module has that they stand in
    while waiting:
        each, module = waiting.pop()
        text = each if isinstance(each, str) else getattr(each, "__forward_arg__", None)
        if text is not None:
            found = {name: module[name] for name in re.findall(r"[^\W\d]\w*", text) if name in module}
            waiting += [(value, module) for name, value in found.items() if name not in names]
            names |= found
            continue
        if any(each is other for other in seen):
            continue
        seen.append(each)
        waiting += [(part, module) for part in (each if isinstance(each, list) else typing.get_args(each))]
        # Of a model everything is known once it is complete.
        if isinstance(each, type) and not hasattr(each, "__pydantic_fields__") and each.__module__ != "builtins":
            module = vars(sys.modules.get(each.__module__, typing))
            waiting += [(annotation, module) for annotation in getattr(each, "__annotations__", {}).values()]
    return names


def _dumped(kind: Any) -> bytes:
    import cloudpickle

    # Told apart by being themselves, which copies are not: "no default", and others.
    marks = {
        id(value): name
        for name, value in vars(dataclasses).items()
        if type(value).__module__ == "dataclasses" and not isinstance(value, type) and not callable(value)
    }

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
        def reducer_override(self, obj: Any) -> Any:
            return marks[id(obj)] if id(obj) in marks else super().reducer_override(obj)

    with io.BytesIO() as file:
        Pickler(file).dump(kind)
        return file.getvalue()


def _out_of_reach(code: bytes) -> Iterator[str]:
    """Yield the modules that a pickle names, and that no other process would find."""
    for _, argument, _ in pickletools.genops(code):
        if isinstance(argument, str) and argument in sys.modules and argument != "__main__":
            top = argument.partition(".")[0]
            finders = [each.find_spec for each in sys.meta_path if hasattr(each, "find_spec")]
            if top not in sys.builtin_module_names and not any(find(top, None) for find in finders):
                yield argument


def loaded(code: bytes) -> tuple[Any, dict[str, Any]]:
    """Return the type, and what its annotations name that is not here. Raises whatever an import may raise."""
    if code in _pickled_here:  # loaded here, it would write itself over the program's own
        return _pickled_here[code], {}
    import cloudpickle

    kind, names = cloudpickle.loads(code)
    return kind, names
