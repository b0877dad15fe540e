"""`.env` beside a configuration: what is taken out of it, and what is said of one that cannot be used."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rowmill.core.config import Config, endpoints, env_file, parse
from rowmill.core.config.credentials import environment, metrics_headers
from rowmill.core.errors import ConfigError

SECRET = "sk-not-to-be-shown-0123456789"


def configured(*providers: dict[str, Any], **sections: Any) -> Config:
    task = {"model": "m", "prompt": "{text}"}
    document = {"input": {"path": "rows.jsonl"}, "task": task, "output": {"path": "out.jsonl"}, **sections}
    return parse({**document, "provider": list(providers)} if providers else document, "c.toml")


KEYED = configured({"base_url": "http://127.0.0.1:1/v1", "api_key_env": "MY_KEY"})


def key_in(folder: Path, content: bytes | str, environ: dict[str, str] | None = None) -> str | None:
    """Return the key that a provider gets with this file beside its configuration."""
    (folder / ".env").write_bytes(content.encode() if isinstance(content, str) else content)
    (endpoint,) = endpoints(KEYED.provider, environment(KEYED, environ or {}, folder))
    return endpoint.key


@pytest.mark.parametrize(
    "content",
    [
        f"MY_KEY={SECRET}", f"MY_KEY={SECRET}\n", f"MY_KEY={SECRET}\r\nOTHER=1\r\n", f"MY_KEY={SECRET}\rOTHER=1\r",
        f"\n\n# a comment\nOTHER=1\n  MY_KEY = {SECRET}  # of last week\n", f"export MY_KEY={SECRET}\n",
        f'MY_KEY="{SECRET}"\n', f"MY_KEY='{SECRET}'", f'export MY_KEY = "{SECRET}" # it\n', f"\ufeffMY_KEY={SECRET}\n",
        f"MY_KEY=\nMY_KEY={SECRET}\n", f"MY_KEY={SECRET}\nMY_KEY={SECRET}\n", f"MY_KEY\nMY_KEY={SECRET}\n",
        f"OTHER=1\nOTHER=2\nMY_KEY={SECRET}\n", f'OTHER="several\nlines"\nMY_KEY={SECRET}\n', f"Ä=ü\nMY_KEY={SECRET}\n",
        f"'MY_KEY'={SECRET}\n",
    ],
)  # fmt: skip
def test_a_key_is_read_as_other_programs_read_it(tmp_path: Path, content: str) -> None:
    assert key_in(tmp_path, content) == SECRET


@pytest.mark.parametrize(
    ("written", "value"),
    [("a$HOME-${X}b", "a$HOME-${X}b"), ("a#b", "a#b"), ("'a b'", "a b"), (r'"a\"b"', 'a"b'), ("a=b==", "a=b==")],
)
def test_a_value_is_what_stands_there(tmp_path: Path, written: str, value: str) -> None:
    assert key_in(tmp_path, f"X=1\nMY_KEY={written}\n") == value


def test_the_environment_wins(tmp_path: Path) -> None:
    assert key_in(tmp_path, "MY_KEY=of-the-file\n", {"MY_KEY": SECRET}) == SECRET
    assert key_in(tmp_path, f"MY_KEY={SECRET}\n", {"MY_KEY": " "}) == SECRET, "a blank one is as none, as always"


def test_every_variable_that_is_named_is_found_and_no_other(tmp_path: Path) -> None:
    names = ["A_KEY", "A_HEADER", "HOOK", "HOOK_HEADER", "PUSHED", "OPENAI_API_KEY"]
    (tmp_path / ".env").write_text("".join(f"{name}=of {name}\n" for name in [*names, "PATH", "HTTPS_PROXY", "UNUSED"]))
    config = configured(
        {"name": "a", "base_url": "http://127.0.0.1:1/v1", "api_key_env": "A_KEY", "headers_env": {"x": "A_HEADER"}},
        {"name": "b"},
        notify={"url_env": "HOOK", "headers_env": {"y": "HOOK_HEADER"}},
        metrics={"otlp": "http://127.0.0.1:2", "headers_env": {"z": "PUSHED"}},
    )
    found = environment(config, {"PATH": "/bin", "HOME": "/root"}, tmp_path)
    assert found == {"PATH": "/bin", "HOME": "/root", **{name: f"of {name}" for name in names}}
    assert [each.key for each in endpoints(config.provider, found)] == ["of A_KEY", "of OPENAI_API_KEY"]
    assert metrics_headers(config.metrics, found) == {"z": "of PUSHED"}


def test_only_the_folder_itself_is_looked_into(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"MY_KEY={SECRET}\n")
    below = tmp_path / "below"
    below.mkdir()
    assert "MY_KEY" not in environment(KEYED, {}, below)


def test_the_file_is_told_where_a_key_is_from_it(tmp_path: Path) -> None:
    key_in(tmp_path, f"MY_KEY={SECRET}\n")
    found = environment(KEYED, {"OTHER": "1"}, tmp_path)
    assert env_file.source(found, "MY_KEY") == f"MY_KEY in {tmp_path / '.env'}"
    assert env_file.source(found, "OTHER") == "OTHER"
    assert env_file.source({"MY_KEY": "1"}, "MY_KEY") == "MY_KEY"
    assert SECRET not in repr(found)


@pytest.mark.parametrize("content", [None, "", "OTHER=1\n", "MY_KEY=\n", "MY_KEY=  \n", "MY_KEY\n", "# MY_KEY=1\n"])
def test_a_missing_key_names_its_variable_and_the_file(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / ".env").write_text(content)
    with pytest.raises(ConfigError) as refused:
        endpoints(KEYED.provider, environment(KEYED, {}, tmp_path))
    assert str(refused.value) == (
        "provider 'default': no API key: set the environment variable MY_KEY, or write MY_KEY=... into "
        f"{tmp_path / '.env'}, or name another one by provider.api_key_env"
    )


def directory(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def written(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (directory, ": is a directory, and no variables can be read from it; set MY_KEY in the environment"),
        (pipe, ": is no regular file, and no variables can be read from it; set MY_KEY in the environment"),
        (loop, ": cannot be read: Too many levels of symbolic links; set MY_KEY in the environment"),
        (written(b"#" * 70_000), ": is larger than 64 KiB, and no file of variables; set MY_KEY in the environment"),
        (written(b"A=1\nMY_KEY=sk-\xff-0123\n"), ": line 2 is not in UTF-8; save the file as UTF-8"),
        (written(f"MY_KEY={SECRET}\n".encode("utf-16")), ": line 1 is not in UTF-8; save the file as UTF-8"),
        (written(f"MY_KEY={SECRET}\n".encode("utf-16-le")), ": line 1 is not in UTF-8; save the file as UTF-8"),
        (written(b"A=1\r\n\r\nMY_KEY=sk\0-0123\r\n"), ": line 3 is not in UTF-8; save the file as UTF-8"),
        (
            written(f"A=1\n\n# two\n\nMY_KEY: {SECRET}\n".encode()),
            ": line 5 is not written as NAME=value, or a quote in it is not closed",
        ),
        (
            written(f'A=1\nMY_KEY="{SECRET}\nB=1\n'.encode()),
            ": line 2 is not written as NAME=value, or a quote in it is not closed",
        ),
        (
            written(f"MY_KEY={SECRET}\nA=1\n\nexport MY_KEY={SECRET}9\n".encode()),
            ": line 4: MY_KEY has another value than in line 1; remove one",
        ),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_told_in_a_line(
    tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    make(tmp_path / ".env")
    with pytest.raises(ConfigError) as refused:
        environment(KEYED, {}, tmp_path)
    assert str(refused.value) == f"{tmp_path / '.env'}{said}"
    # Where nothing is missing nobody looks at it: it may be another program's.
    assert environment(KEYED, {"MY_KEY": SECRET}, tmp_path)["MY_KEY"] == SECRET


def test_a_file_that_must_not_be_read_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path, *arguments: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / ".env").write_text(f"MY_KEY={SECRET}\n")
    monkeypatch.setattr(Path, "open", closed)  # root may read anything
    with pytest.raises(ConfigError, match="cannot be read: Permission denied; set MY_KEY in the environment"):
        environment(KEYED, {}, tmp_path)


def test_a_value_that_no_header_can_carry_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        key_in(tmp_path, f"MY_KEY=“{SECRET}”\n")
    assert f"the key in MY_KEY in {tmp_path / '.env'} has characters" in str(refused.value)
    assert SECRET not in str(refused.value)
