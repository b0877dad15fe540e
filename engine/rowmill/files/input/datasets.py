"""Dataset directories as Hugging Face's tools leave them on disk: which files are the data, in which order.

Two layouts are known, by their files alone: the `datasets` package is not needed.
- `save_to_disk`: `state.json` lists the Arrow files of one split; `dataset_dict.json` lists the splits, each in a
  folder of its name.
- a repository of the Hub: data files at the top or in `data/`, named for their split ("train-00000-of-00002.parquet",
  "test.csv"), or in a folder named for it. A split of another name is known in `data/` only, by the numbers. What a
  README says of other files is not read.
"""

import re
from pathlib import Path
from typing import Any

import msgspec

from rowmill.core.errors import InputError
from rowmill.files.input.formats import named

_NAMES = {  # what people call a split -> what it is called
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
_SHARDED = re.compile(r"(?P<split>\w+(\.\w+)*)-\d{5}-of-\d{5}\b")
_WORD = re.compile(r"[^\W\d_]+")  # the first word of a name: separators are "-", "_", ".", spaces and digits


def find_dataset(directory: Path, split: str | None) -> list[Path] | None:
    """Return the data files of a dataset directory, in order; None where it is an ordinary directory.

    split: the one to read, needed where there are several. Raises `InputError` where it is missing or unknown, and
    where the data files do not hold the rows in order.
    """
    try:
        if (directory / "dataset_dict.json").is_file():
            return _saved(directory / _chosen(directory, _splits_of_dict(directory), split))
        if (directory / "state.json").is_file():
            files = _saved(directory)
            if split is not None and (own := _json(directory / "state.json").get("_split")) != split:
                raise InputError(f"{directory}: holds the split {own!r}, not {split!r}; leave input.split out")
            return files
        return _repository(directory, split)
    except OSError as error:
        raise InputError(
            f"{error.filename or directory}: cannot be read: {error.strerror}; copy the dataset anew"
        ) from None


def _chosen(directory: Path, splits: list[str], split: str | None) -> str:
    listed = ", ".join(splits)
    if split is None:
        if len(splits) != 1:
            raise InputError(f"{directory}: has the splits {listed}; set input.split to one of them")
        return splits[0]
    for name in (split, _NAMES.get(split)):
        if name in splits:
            return name
    raise InputError(f"{directory}: has no split {split!r}; set input.split to one of these: {listed}")


# save_to_disk


def _splits_of_dict(directory: Path) -> list[str]:
    splits = _json(directory / "dataset_dict.json").get("splits")
    if not isinstance(splits, list) or not splits or not all(isinstance(name, str) for name in splits):
        raise InputError(f"{directory / 'dataset_dict.json'}: lists no splits; save the dataset anew")
    return splits


def _saved(directory: Path) -> list[Path]:
    """Return the files of one saved split."""
    state = _json(directory / "state.json")
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise InputError(
            f"{directory}: was saved with an indices file, so its rows are not in the order of its data files; save "
            "dataset.flatten_indices() anew"
        )
    entries = state.get("_data_files")
    names = [entry.get("filename") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    files = [directory / name for name in names if isinstance(name, str)]
    if not files:
        raise InputError(f"{directory / 'state.json'}: lists no data files; save the dataset anew")
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: is missing, though state.json lists it; copy the dataset anew")
    return files


def _json(path: Path) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: is missing; copy the dataset anew") from None
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: is no JSON: {error}; copy the dataset anew") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: is no JSON object; copy the dataset anew")
    return found


# A repository of the Hub


def _repository(directory: Path, split: str | None) -> list[Path] | None:
    for folder in (directory / "data", directory):
        if not folder.is_dir():
            continue
        splits, others = _by_split(folder)
        # Files of no split are never left out silently: they make it an ordinary directory.
        if splits and (not others or split is not None):
            return splits[_chosen(directory, list(splits), split)]
    if split is not None:
        raise InputError(f"{directory}: has no files of a split; leave input.split out")
    return None


def _by_split(folder: Path) -> tuple[dict[str, list[Path]], bool]:
    """Return the files of each split, and whether there are data files of none."""
    splits: dict[str, list[Path]] = {}
    others = False
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir():
            if (name := _NAMES.get(entry.name)) is not None:
                files = sorted(file for file in entry.rglob("*") if _is_data(file))
                splits.setdefault(name, []).extend(files)
        elif _is_data(entry):
            name = _split_of(entry.name, anyhow=folder.name == "data")
            if name is None:
                others = True
            else:
                splits.setdefault(name, []).append(entry)
    order = {name: number for number, name in enumerate(dict.fromkeys(_NAMES.values()))}
    found = sorted((name for name in splits if splits[name]), key=lambda name: (order.get(name, len(order)), name))
    return {name: splits[name] for name in found}, others


def _split_of(name: str, *, anyhow: bool) -> str | None:
    """Return the split that a file's name tells. anyhow: also one of another name, as "train_sft-00000-of-00001"."""
    if anyhow and (sharded := _SHARDED.match(name)):
        split = sharded["split"]
        return _NAMES.get(split, split)
    word = _WORD.match(name)
    return _NAMES.get(word[0]) if word else None


def _is_data(file: Path) -> bool:
    return not file.name.startswith((".", "_")) and named(file.name)[0] is not None and file.is_file()
