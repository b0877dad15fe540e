"""Types of Python as schemas of replies: pydantic models, dataclasses, TypedDicts, enums, lists: what pydantic takes.

The JSON Schema of the type goes the way of any other: asked for, and replies are held against it. After that the type
itself reads the reply, so that its validators have the last word; what they say is shown to the model as what a schema
says. Workers have the type by its name, or pickled by value where only the program has it, as one of a notebook's cell.
Nothing here imports pydantic before there is a type.
"""

import dataclasses
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import typing
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rowmill.core.config.sections import ModelSchema
from rowmill.core.errors import ConfigError
from rowmill.tasks.pickled_types import loaded, pickled
from rowmill.tasks.schema import VALUE, Document, OutputSchema, itself
from rowmill.tasks.strict_form import strict_form

if TYPE_CHECKING:
    import pydantic

NOT_LOADED = "cannot be loaded by a worker"  # said where that is so

_NOT_THE_USERS = {*sys.stdlib_module_names, "pydantic", "pydantic_core", "annotated_types", "typing_extensions"}
_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_KEY = "task.schema"
_PROBLEMS = 3  # of one reply that are told, as of a schema
_PROBLEM_CHARACTERS = 160  # of each
_NAME_CHARACTERS = 60  # of a type that is told with them


class ModelReader:
    """Reads replies as a type."""

    def __init__(self, kind: Any, name: str, *, wrapped: bool, names: dict[str, Any] | None = None) -> None:
        """Have pydantic compile what reads the type. names: what its annotations name, where that is not here.

        Raises `ConfigError` where it is none that pydantic takes.
        """
        self._name = name
        self._wrapped = wrapped
        made = adapter(_in_object(kind) if wrapped else kind, name)
        if names:
            made.rebuild(force=True, raise_errors=False, _types_namespace=names)
        self._validate = made.validate_json

    def problem(self, text: bytes) -> str | None:
        """Say what is wrong with a reply's JSON, in a short line; None where the type takes it. Of a worker.

        No signal reaches a worker: an interrupt there is one that a validator has raised itself.
        """
        try:
            self.instance(text)
        except ValueError as error:
            return str(error)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is this reply's
            return self._unreadable(error)
        return None

    def instance(self, text: bytes) -> Any:
        """Return the value that a reply's JSON is. Raises `ValueError` with what is wrong where the type refuses it."""
        import pydantic

        try:
            value = self._validate(text)
        except pydantic.ValidationError as error:
            raise ValueError(_told(error)) from None
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a validator is the user's: it raises what it likes
            raise ValueError(self._unreadable(error)) from None
        return value.value if self._wrapped else value

    def _unreadable(self, error: BaseException) -> str:
        return _short(f"{_short(self._name, _NAME_CHARACTERS)} cannot read it: {type(error).__name__}: {error}")


def is_name(schema: str) -> bool:
    """Tell whether a schema is named as a type is: "package.module:Model"."""
    return _NAME.fullmatch(schema) is not None and not Path(schema).is_file()


def by_name(name: str) -> ModelSchema | Document:
    """Import what is named "package.module:Model", the current directory included; it may be a JSON Schema too.

    Raises `ConfigError` where that cannot be.
    """
    kind, of_program = _imported(name)
    if isinstance(kind, dict):
        return kind
    return of_type(kind, name, code=pickled(kind) if of_program else None)


def of_type(kind: Any, name: str | None = None, *, code: bytes | None) -> ModelSchema:
    """Return the schema of a type. code: as in `ModelSchema`. Raises `ConfigError` where it has none."""
    name = shown(kind) if name is None else name
    document, wrapped = _document(kind, name)
    OutputSchema(document, f"{_KEY}: {name}")
    return ModelSchema(name, document, strict_form(document), wrapped, _digest(kind), code)


def reader(schema: ModelSchema) -> ModelReader | None:
    """Return what reads replies in a process that is given the schema; None where only the program can.

    Raises `ConfigError` where the type cannot be had here.
    """
    if schema.code == b"":
        return None
    kind, names = _kind_and_names(schema)
    return ModelReader(kind, schema.name, wrapped=schema.wrapped, names=names)


def kind_of(schema: ModelSchema) -> Any:
    """Return the type itself. Raises `ConfigError` where it cannot be had here."""
    return _kind_and_names(schema)[0]


def _kind_and_names(schema: ModelSchema) -> tuple[Any, dict[str, Any]]:
    if schema.code is None:
        return _imported(schema.name)[0], {}
    try:
        return loaded(schema.code)
    except Exception as error:  # noqa: BLE001 - what it needs is imported
        raise ConfigError(
            f"{_KEY}: {schema.name} {NOT_LOADED}: {type(error).__name__}: {error}; define it in a module of its own"
        ) from None


def adapter(kind: Any, name: str) -> "pydantic.TypeAdapter[Any]":
    """Return pydantic's adapter of a type. Raises `ConfigError` where it takes none such."""
    import pydantic

    with suppress(TypeError):
        if issubclass(kind, sys.modules["pydantic.v1"].BaseModel if "pydantic.v1" in sys.modules else ()):
            raise ConfigError(f"{_KEY}: {name} is a model of pydantic 1; derive it from pydantic.BaseModel")
    if not isinstance(kind, type) and _is_model(type(kind)):
        raise ConfigError(f"{_KEY}: an instance of {shown(type(kind))} is no type; pass {type(kind).__name__} itself")
    if inspect.isroutine(kind):  # pydantic would take what it is called with
        raise ConfigError(f"{_KEY}: {name} is no type that pydantic takes: it is a function; pass what it returns")
    if isinstance(kind, list) and len(kind) == 1:
        raise ConfigError(f"{_KEY}: {name} is a list and no type; for a list of these pass list[{_in_list(kind[0])}]")
    try:
        return pydantic.TypeAdapter(kind)
    except Exception as error:  # noqa: BLE001 - types say themselves how they are read
        raise ConfigError(f"{_KEY}: {name} is no type that pydantic takes: {_short(str(error))}") from None


def _in_list(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else shown(kind)


def _is_model(kind: type) -> bool:
    return hasattr(kind, "__pydantic_fields__") or dataclasses.is_dataclass(kind)


def shown(kind: Any) -> str:
    """Return a type's name for people: "module:Model"."""
    if isinstance(kind, type) and not hasattr(kind, "__args__"):
        return f"{kind.__module__}:{kind.__qualname__}"
    return " ".join(str(kind).split())


def _imported(name: str) -> tuple[Any, bool]:
    """Return what is named so, and whether it is of the program that runs, which nobody imports twice."""
    module_name, _, path = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # last: nothing here is to be taken for a module of somebody else
    main = sys.modules.get("__main__")
    of_program = _is_program(module_name, getattr(main, "__file__", None))
    try:
        found: Any = main if of_program else importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the module is the user's: it does what it likes
        missing = isinstance(error, ModuleNotFoundError) and error.name == module_name.partition(".")[0]
        why = f"there is no module {error.name}" if missing else f"{type(error).__name__}: {error}"  # type: ignore[union-attr]
        raise ConfigError(
            f"{_KEY}: {name} cannot be imported: {_short(why)}; write it as package.module:Model, with a module that "
            f"lies in {here} or is installed"
        ) from None
    for part in path.split("."):
        if not hasattr(found, part):
            nearest = difflib.get_close_matches(part, dir(found), n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise ConfigError(f"{_KEY}: {name}: module {module_name} has no {part}{hint}")
        found = getattr(found, part)
    return found, of_program


def _is_program(module: str, file: str | None) -> bool:
    """Tell whether a module is the script that runs: imported, it would start itself once more."""
    if module == "__main__":
        return True
    if file is None or module in sys.modules:
        return False
    try:
        spec = importlib.util.find_spec(module)
        return spec is not None and spec.origin is not None and Path(file).samefile(spec.origin)
    except (ImportError, ValueError, OSError):
        return False


def _document(kind: Any, name: str) -> tuple[Document, bool]:
    """Return the schema of a reply, an object's, and whether the value stands in that object."""
    try:
        document = adapter(kind, name).json_schema()
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        raise ConfigError(f"{_KEY}: {name} cannot be written as JSON Schema: {_short(str(error))}") from None
    document = itself(document)  # a model that holds itself stands behind a reference
    if document.get("type") == "object":
        return document, False
    top = {"$defs": document.pop("$defs")} if "$defs" in document else {}
    title = document.get("title", "answer")
    return {
        "title": title, "type": "object", "properties": {VALUE: document}, "required": [VALUE],
        "additionalProperties": False, **top,
    }, True  # fmt: skip


def _in_object(kind: Any) -> Any:
    import pydantic

    return pydantic.create_model("Answer", value=(kind, ...))


def _digest(kind: Any) -> str:
    """Return a digest of what is written of a type and of all that it is made of, so far as it can be read."""
    texts = []
    for each in _written(kind):
        with suppress(OSError, TypeError):
            texts.append(inspect.getsource(each))
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=16).hexdigest()


def _written(kind: Any) -> Iterator[Any]:
    """Yield the classes and functions of the user's that decide what a type takes, each once."""
    seen: list[Any] = []
    waiting = [kind]
    while waiting:
        each = waiting.pop(0)
        if any(each is other for other in seen):
            continue
        seen.append(each)
        parts: tuple[Any, ...] = typing.get_args(each)  # validators too, of what is Annotated
        if not parts and (isinstance(each, type) or inspect.isroutine(each)):
            if str(each.__module__).partition(".")[0] in _NOT_THE_USERS:
                continue
            yield each
            parts = (*each.__bases__, *_fields(each)) if isinstance(each, type) else ()
        elif not parts:
            parts = tuple(getattr(each, name, None) for name in ("func", "__supertype__", "__value__"))
        waiting += parts


def _fields(kind: type) -> tuple[Any, ...]:
    fields = getattr(kind, "__pydantic_fields__", None)
    if fields is not None:
        return tuple(part for field in fields.values() for part in (field.annotation, *field.metadata))
    with suppress(Exception):  # names that are known only where it was made
        return tuple(typing.get_type_hints(kind, include_extras=True).values())
    return ()


def _told(error: "pydantic.ValidationError") -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)[:_PROBLEMS]
    return "; ".join(
        _short("".join(f"/{step}" for step in each["loc"]) + (": " if each["loc"] else "") + each["msg"])
        for each in found
    )


def _short(text: str, most: int = _PROBLEM_CHARACTERS) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 4] + " ..."
