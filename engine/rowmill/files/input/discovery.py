"""Which files an `input.path` stands for, in the order of their names, and of which format they are."""

import fnmatch
import glob
import os
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import NamedTuple

from rowmill.core.config.sections import InputConfig
from rowmill.core.errors import InputError
from rowmill.core.rows import InputFile
from rowmill.files import remote
from rowmill.files.input import datasets
from rowmill.files.input.encodings import is_wide, refuse_other
from rowmill.files.input.formats import WHOLE, Format, named, recognized, refuse_foreign, same
from rowmill.files.input.json_values import holds_columns, is_spread
from rowmill.files.input.streams import head_of, reading, shown, start_of

FEW = 256  # files that are all looked at, and read in place where they can be
_LOOK, _LOOK_EACH = 1 << 26, (1 << 16, 1 << 22)  # bytes that are looked at: of all files, of each at least and at most

_SIDECARS = frozenset(
    {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "README", "LICENSE"}
)
_SIDECAR_SUFFIXES = (".crc", ".md", ".lock")


class Found(NamedTuple):
    """One file of the input."""

    file: InputFile
    format: Format
    compressed: bool

    @property
    def remote(self) -> bool:
        """It is on another machine."""
        return remote.is_remote(self.file.path)


def find_files(config: InputConfig, *, plain: bool = False) -> list[Found]:
    """Return the files that the configuration names, all of one format. Raises `InputError`.

    plain: by what they are called alone, see `inputs.find`.

    Of a directory those at its top are taken (and below it where it is a dataset's): the files named for a known
    format, or where there are none, those whose content is. Files beside the data, as `_SUCCESS` or `state.json`, are
    passed over there and in globs.
    """
    path = config.path
    if remote.is_remote(path):
        files = remote.find_files(path)
        whole = len(files) == 1 or glob.has_magic(path)
        files = [file for file in files if not _is_sidecar(file.path)] if len(files) > 1 else files
    else:
        paths, whole = _local(path, config.split)
        files = [_stat(each) for each in paths]
    if not whole:
        files = [file for file in files if named(file.path)[0] not in ((None, "xlsx") if plain else (None,))] or files
    look = min(max(_LOOK // max(len(files), 1), _LOOK_EACH[0]), _LOOK_EACH[1]) if len(files) <= FEW else 0
    found = [
        each
        for file in files
        if (each := _found(file, config, look=look, sure=whole, alone=len(files) == 1, plain=plain)) is not None
    ]
    if not found:
        raise InputError(
            f"{shown(path)}: holds no files of rows (.jsonl, .csv, .tsv, .xlsx, .parquet, .arrow, and .gz or .zst "
            "behind these); set input.path to the file, directory or glob with the rows"
        )
    _check_alike(found, config)
    if any(each.format == "json" for each in found):
        return [each._replace(format="json") for each in found]  # what reads that reads lines too
    return found


def takes_in(path: str, other: Path) -> bool:
    """Tell whether an `input.path` that is a directory or a glob stands for another file too, once that is there."""
    if remote.is_remote(path) or _is_sidecar(str(other)):
        return False
    given = Path(path)
    if given.is_dir():
        inside = os.path.realpath(other.parent) == os.path.realpath(given)
        return inside and named(str(other))[0] is not None and datasets.find_dataset(given, None) is None
    if given.exists() or not glob.has_magic(path):
        return False
    return _matches(Path(os.path.abspath(other)).parts, Path(os.path.abspath(path)).parts)  # noqa: PTH100 - links stay


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Tell whether a path's parts are those of a glob."""
    if not pattern or not parts:
        return not parts and all(each == "**" for each in pattern)
    unseen = parts[0].startswith(".") and not pattern[0].startswith(".")  # only what begins so is for what is hidden
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (not unseen and _matches(parts[1:], pattern))
    return not unseen and fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _local(path: str, split: str | None) -> tuple[list[str], bool]:
    """Return the files of this machine, and whether each of them is meant; in a directory some may not be."""
    given = Path(path)
    with reading(path):
        is_directory = given.is_dir()
        if not is_directory and glob.has_magic(path) and not given.exists():
            every = glob.glob(path, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
            matched = [each for each in every if not Path(each).is_dir()]
            if not matched:
                raise InputError(f"{path}: no file matches; set input.path to the files with the rows")
            return _data(matched), True
        if not is_directory:
            return [path], True
        dataset = datasets.find_dataset(given, split)
        if dataset is not None:
            return [str(each) for each in dataset], True
        with os.scandir(given) as entries:
            inside = [entry.path for entry in entries if not entry.is_dir()]
    return _data(inside), False


def _data(paths: Iterable[str]) -> list[str]:
    """Return the paths of the files that are not beside the data, in the order of their names."""
    return sorted((path for path in paths if not _is_sidecar(path)), key=lambda path: path.split("/"))


def _is_sidecar(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.startswith((".", "_")) or name in _SIDECARS or name.lower().endswith(_SIDECAR_SUFFIXES)


def _stat(path: str) -> InputFile:
    with reading(path):
        stat = os.stat(path)  # noqa: PTH116 - a Path for each of 100,000 files takes seconds
    try:
        path.encode()
    except UnicodeEncodeError:
        shown_path = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise InputError(f"{shown_path}: its name is no UTF-8 text; rename it, or use a link to it") from None
    return InputFile(path, stat.st_size, stat.st_mtime_ns)


def _found(file: InputFile, config: InputConfig, *, look: int, sure: bool, alone: bool, plain: bool) -> Found | None:
    """Return what a file is; None where it is not `sure` to be of the input and its content tells nothing.

    look: so many bytes of it are looked at. 0: there are very many files, and those whose names tell their format are
    believed: the planner, which has to open each of them anyway, finds the one that is not. alone: it is the only one;
    of several on other machines each look is a request.
    """
    wanted: Format | None = None if config.format == "auto" else config.format
    by_name, packed = named(file.path)
    if not look and by_name is not None:
        return Found(file, wanted or by_name, packed is not None)
    if remote.is_remote(file.path) and (wanted or by_name) is not None and not alone:
        return Found(file, wanted or by_name or "jsonl", packed is not None)
    path = shown(file.path)
    compression, head, whole = head_of(file.path, _LOOK_EACH[0])
    format_ = wanted or by_name or recognized(head)
    if plain:
        if format_ in ("json", "xlsx"):  # they were not read
            raise InputError(f"{path}: is of no known format; set input.format, or input.path to other files")
        return Found(file, format_ or "jsonl", compression is not None) if format_ is not None or sure else None
    if format_ is None:
        if head.strip():
            if not sure:
                return None
            refuse_foreign(path, head, "jsonl", config.codec)
        format_ = _json_in(head, config) if is_wide(config.codec) else None
    if format_ is None:
        if not sure:
            return None
        if head.strip():
            raise InputError(f"{path}: is of no known format; set input.format, or input.path to other files")
        format_ = "jsonl"  # without rows
    refuse_foreign(path, head, format_, config.codec)
    if compression is not None and format_ in WHOLE:
        raise InputError(f"{path}: is a {compression}-compressed {format_} file; decompress it first")
    if format_ not in WHOLE and look and config.encoding == "auto":
        refuse_other(path, start_of(file.path, look))
    if format_ in ("jsonl", "batch"):
        if _is_document(file.path) and holds_columns(head.decode(config.codec, "replace")):
            raise InputError(
                f"{path}: holds columns and not rows, as pandas' to_json writes them; write it by "
                'to_json(..., orient="records"), or as lines with lines=True'
            )
        spread = is_spread(head.decode(config.codec, "replace"), whole=whole, document=_is_document(file.path))
        if spread and wanted is not None:
            what = "is one JSON array" if head.lstrip()[:1] == b"[" else "is JSON over several lines"
            raise InputError(
                f"{path}: {what}; write one object a line first, as `jq -c '.[]'` does, or set input.format = \"json\""
            )
        format_ = "json" if spread else format_
    return Found(file, format_, compression is not None)


def _json_in(head: bytes, config: InputConfig) -> Format | None:
    """Return the format of a text of two or four bytes a character."""
    return recognized(head.decode(config.codec, "replace").removeprefix("\ufeff").encode(errors="replace"))


def _is_document(path: str) -> bool:
    """Tell whether a file is named as one JSON document."""
    return ".json" in PurePath(path).suffixes[-2:]


def _check_alike(found: list[Found], config: InputConfig) -> None:
    """Refuse files of two formats, as their names tell or, where these tell nothing, their content."""
    formats = [(named(each.file.path)[0] or each.format) for each in found]
    explicit = config.format != "auto"
    for each, format_ in zip(found, formats, strict=True):
        alike = same(formats[0], format_) or (explicit and {formats[0], format_} == {"csv", "tsv"})
        if not alike:
            raise InputError(
                f"{shown(found[0].file.path)} is of format {formats[0]}, but {shown(each.file.path)} is {format_}; "
                "name files of one format, by a glob such as "
                f"{PurePath(found[0].file.path).parent / ('*' + PurePath(found[0].file.path).suffix)}"
            )
