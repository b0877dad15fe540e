"""Dataset directories as the tools of Hugging Face leave them."""

import json
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pytest

from rowmill.core.errors import InputError
from rowmill.files.input import arrow
from rowmill.files.input.datasets import find_dataset


def saved(folder: Path, shards: int = 2, split: str | None = "train", **state: object) -> list[Path]:
    """Write what `Dataset.save_to_disk` writes: streams of batches, the state and the description."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05d}-of-{shards:05d}.arrow" for number in range(shards)]
    features = {"text": {"dtype": "string", "_type": "Value"}}
    schema = pa.schema({"text": pa.string()}, {"huggingface": json.dumps({"info": {"features": features}})})
    for name in names:
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            writer.write_table(pa.table({"text": [name, None, "é"]}, schema), max_chunksize=2)
    whole: dict[str, object] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": "d1c3b4a5f6e70819",
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    (folder / "state.json").write_text(json.dumps(whole | state, indent=2, sort_keys=True))
    info = {"citation": "", "description": "", "features": features, "homepage": "", "license": ""}
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=2, sort_keys=True))
    return [folder / name for name in names]


def repository(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def found(folder: Path, split: str | None = None) -> list[str] | None:
    files = find_dataset(folder, split)
    return None if files is None else [file.relative_to(folder).as_posix() for file in files]


def test_a_saved_dataset_is_read_in_the_order_of_its_state(tmp_path: Path) -> None:
    files = saved(tmp_path / "set", shards=3)
    assert find_dataset(tmp_path / "set", None) == files
    assert find_dataset(tmp_path / "set", "train") == files
    rows = [line for file in files for lines in arrow.lines(file) for line in lines]
    assert rows[:3] == [b'{"text":"data-00000-of-00003.arrow"}', b'{"text":null}', '{"text":"é"}'.encode()]
    assert len(rows) == 9
    state = json.loads((tmp_path / "set" / "state.json").read_text())
    state["_data_files"].reverse()
    (tmp_path / "set" / "state.json").write_text(json.dumps(state))
    assert find_dataset(tmp_path / "set", None) == files[::-1]


def test_a_dictionary_of_splits_asks_for_one(tmp_path: Path) -> None:
    test = saved(tmp_path / "all" / "test", split="test")
    train = saved(tmp_path / "all" / "train")
    (tmp_path / "all" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert find_dataset(tmp_path / "all", "train") == train
    assert find_dataset(tmp_path / "all", "test") == test
    with pytest.raises(InputError, match=r"all: has the splits train, test; set input\.split to one of them"):
        find_dataset(tmp_path / "all", None)
    with pytest.raises(InputError, match=r"all: has no split 'dev'; set input\.split to one of these: train, test"):
        find_dataset(tmp_path / "all", "dev")
    (tmp_path / "all" / "dataset_dict.json").write_text('{"splits": ["test"]}')
    assert find_dataset(tmp_path / "all", None) == test


def test_rows_that_are_not_in_the_order_of_the_files_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "set", _indices_data_files=[{"filename": "indices.arrow"}])
    with pytest.raises(
        InputError, match=r"set: was saved with an indices file.* save dataset\.flatten_indices\(\) anew"
    ):
        find_dataset(tmp_path / "set", None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("state.json", "{", "state.json: is no JSON"),
        ("state.json", "[]", "state.json: is no JSON object"),
        ("state.json", '{"_data_files": [{"filename": 1}]}', "state.json: lists no data files"),
        ("state.json", "{}", "state.json: lists no data files"),
        ("state.json", '{"_data_files": [{"filename": "gone.arrow"}]}', "gone.arrow: is missing, though state.json"),
        (
            "state.json",
            '{"_data_files": [{"filename": "dataset_info.json"}], "_split": "test"}',
            "holds the split 'test', not 'train'",
        ),
        ("dataset_dict.json", '{"splits": []}', "dataset_dict.json: lists no splits"),
        ("dataset_dict.json", '{"splits": ["train"]}', "state.json: is missing; copy the dataset anew"),
    ],
)
def test_a_damaged_description_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    saved(tmp_path / "set")
    (tmp_path / "set" / name).write_text(content)
    with pytest.raises(InputError, match=message):
        find_dataset(tmp_path / "set", "train")


@pytest.mark.parametrize(
    ("names", "split", "expected"),
    [
        # one split needs no name
        (["README.md", "data/train-00001-of-00002.parquet", "data/train-00000-of-00002.parquet"], None,
         ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]),
        (["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"], "test",
         ["data/test-00000-of-00001.parquet"]),
        (["data/train_sft-00000-of-00001.parquet", "data/test_sft-00000-of-00001.parquet"], "train_sft",
         ["data/train_sft-00000-of-00001.parquet"]),
        (["train.csv", "test.csv", ".gitattributes"], "train", ["train.csv"]),
        (["train.jsonl.gz", "validation.jsonl.gz"], "validation", ["validation.jsonl.gz"]),
        # the names that people give to splits
        (["train.csv", "dev.csv"], "validation", ["dev.csv"]),
        (["train.csv", "dev.csv"], "dev", ["dev.csv"]),
        (["train/b.jsonl", "train/a.jsonl", "test/c.jsonl"], "train", ["train/a.jsonl", "train/b.jsonl"]),
        (["data/train/a.jsonl", "data/train/_SUCCESS", "data/test/c.jsonl"], "train", ["data/train/a.jsonl"]),
        # ordinary directories
        (["a.jsonl", "b.jsonl"], None, None),
        (["trainees.csv", "contest.csv"], None, None),
        (["train.jsonl", "more.jsonl"], None, None),
        (["part-00000-of-00002.parquet", "rest-00000-of-00001.parquet"], None, None),
        (["data/rows.csv"], None, None),
        ([], None, None),
    ],
)  # fmt: skip
def test_a_repository_is_known_by_its_files(
    tmp_path: Path, names: list[str], split: str | None, expected: list[str] | None
) -> None:
    assert found(repository(tmp_path, *names), split) == expected


def test_several_splits_of_a_repository_ask_for_one(tmp_path: Path) -> None:
    repository(tmp_path, "test.csv", "train.csv", "validation.csv")
    with pytest.raises(InputError, match=r"has the splits train, validation, test; set input\.split"):
        find_dataset(tmp_path, None)
    with pytest.raises(InputError, match=r"has no split 'extra'; set input\.split to one of these: train"):
        find_dataset(tmp_path, "extra")


def test_a_split_of_a_directory_that_has_none_is_refused(tmp_path: Path) -> None:
    repository(tmp_path, "a.csv")
    with pytest.raises(InputError, match=r"has no files of a split; leave input\.split out"):
        find_dataset(tmp_path, "train")
