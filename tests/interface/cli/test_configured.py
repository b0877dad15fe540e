"""What a command line names: a configuration, or the directory of a run."""

from argparse import Namespace
from pathlib import Path

import pytest

from rowmill.core.config import load
from rowmill.interface.cli.configured import environ_of, run_of

CONFIG = """
[input]
path = "in.jsonl"
[output]
path = "out.jsonl"
[task]
model = "m"
prompt = "{text}"
[[provider]]
base_url = "http://127.0.0.1:9/v1"
"""


def test_a_run_is_named_by_its_directory_or_by_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.toml").write_text(CONFIG)
    options = Namespace(set=[])
    path, config = run_of(options, "config.toml")
    assert config is not None
    assert path == config.run_dir == Path("out.jsonl.run")
    assert options.config == Path("config.toml"), "what is told of the run afterwards names it so"
    Path("out.jsonl.run").mkdir()
    # Whether a run lies in it, its reader says.
    assert run_of(options, "out.jsonl.run") == (Path("out.jsonl.run"), None)
    options.set = ['output.path="other.jsonl"']
    assert run_of(options, "config.toml")[0] == Path("other.jsonl.run")


def test_keys_lie_beside_the_configuration_and_not_where_the_command_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MY_KEY", raising=False)
    path = Path("jobs", "config.toml")
    path.parent.mkdir()
    path.write_text(f'{CONFIG}api_key_env = "MY_KEY"\n')
    Path(".env").write_text("MY_KEY=of another job\n")
    assert "MY_KEY" not in environ_of(Namespace(config=path), load(path))
    Path("jobs", ".env").write_text("MY_KEY=mine\n")
    assert environ_of(Namespace(config=path), load(path))["MY_KEY"] == "mine"
