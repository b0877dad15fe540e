"""Keys in `.env`: they reach the server by the command and from Python, and `check` says where they are from."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import rowmill
from rowmill.core.errors import InputError
from rowmill.interface import cli
from rowmill.interface.cli import map_command
from tests.end_to_end.conftest import Place, Server

KEY = "sk-not-to-be-shown-0123456789"
PRESET = '\n[[provider]]\npreset = "groq"\nhost = "{host}"\n'


def test_a_preset_takes_its_key_out_of_the_file(
    place: Place,
    server: Callable[..., Server],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    monkeypatch.chdir(place.folder)
    started = server()
    place.configure(started.url)
    config = place.folder / "config.toml"
    host = started.url.removesuffix("/v1")
    before, _, behind = config.read_text().partition("[[provider]]")
    config.write_text(f"{before}{PRESET.format(host=host)}[workers]{behind.partition('[workers]')[2]}")
    (place.folder / ".env").write_text(f"GROQ_API_KEY={KEY}\n")
    place.write_rows(20)
    done = place.run()
    assert done.code == 0, done.err
    assert {arrival.authorization for arrival in started.arrivals} == {f"Bearer {KEY}"}
    assert len(started.arrivals) == 20
    # A finished run is looked at as any other, key and all.
    assert rowmill.run("config.toml").totals.rows == 20
    with pytest.raises(SystemExit):
        cli.main(["check", "--no-request"])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "key from GROQ_API_KEY in .env" in lines
    assert f"preset groq: base_url {host}/openai/v1, the key in GROQ_API_KEY" in lines
    with pytest.raises(SystemExit):
        cli.main(["plan", "--json"])
    assert json.loads(capsys.readouterr().out)["presets"] == [
        f"groq: base_url {host}/openai/v1, the key in GROQ_API_KEY"
    ]
    (place.folder / ".env").unlink()
    with pytest.raises(SystemExit) as ended:
        cli.main(["check", "--no-request"])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert "provider 'groq': no API key: set the environment variable GROQ_API_KEY, or write GROQ_API_KEY=..." in said
    assert len(started.arrivals) == 20


def test_map_looks_into_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Mapping[str, str]] = []

    def run(_: Any, environ: Mapping[str, str], *arguments: Any, **options: Any) -> None:
        given.append(environ)
        raise InputError("enough")

    monkeypatch.delenv("MISTRAL_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(map_command, "run", run)
    Path("rows.jsonl").write_text('{"text": "a"}\n')
    Path(".env").write_text(f"MISTRAL_API_KEY={KEY}\n")
    for output in (["-o", "out.jsonl"], []):
        with pytest.raises(SystemExit):
            cli.main(["map", "rows.jsonl", "-m", "m", "-p", "{text}", "--preset", "mistral", *output])
    assert [environ["MISTRAL_API_KEY"] for environ in given] == [KEY, KEY]
