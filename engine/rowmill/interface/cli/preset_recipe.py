"""A recipe for a provider that is known by name, in the place of the simulator."""

import re
import tomllib
from pathlib import Path

from rowmill.core.config import env_file, preset_defaults
from rowmill.core.config.presets import Preset
from rowmill.core.errors import ConfigError
from rowmill.interface.cli import recipes

_IGNORED = ".gitignore"
# The simulator, and the lines in comments that tell of other servers.
_SIMULATOR = re.compile(r'^base_url = "simulator".*\n(?:# (?:base_url|api_key_env) = .*\n)*', re.MULTILINE)
_WIDTH = 32  # where the recipes' comments begin


def write(recipe: str, directory: Path, name: str) -> tuple[list[Path], list[str]]:
    """Write a recipe that asks a preset; return the files' paths, and lines of advice. Raises as recipes are written.

    Raises `ConfigError` for a preset that there is none of, with the nearest one.
    """
    try:
        preset = preset_defaults.named(name)
    except ConfigError as error:
        raise ConfigError(f"--{error}") from None
    written = recipes.write(recipe, directory, lambda text: _asking(text, name, preset))
    config = directory / "config.toml"
    own = [
        step["name"] for step in tomllib.loads(config.read_text(encoding="utf-8")).get("step", ()) if "model" in step
    ]
    steps = f", and as that of the steps {', '.join(own)}" if own else ""
    advice = [f"  model    name one that {preset.title} has, as task.model of {config}{steps}"]
    if preset.key is not None:
        ignored = _ignore_keys(directory)
        written += [] if ignored is None else [ignored]
        apart = "" if ignored is not None else ", which is nothing to be committed"
        advice.append(f"  key      set {preset.key}, or write it into {directory / env_file.NAME}{apart}")
    return written, advice


def _asking(text: str, name: str, preset: Preset) -> str:
    """Return a recipe's configuration, with the preset wherever it has the simulator."""
    key = (
        "without a key" if preset.key is None else f"the key in {preset.key}, in the environment or in {env_file.NAME}"
    )
    lines = [_line(f'preset = "{name}"', f"{preset.title}, {key}")]
    if "{host}" in preset.url:
        # Not set to anything: a key must not go to whoever has that name.
        lines.append(_line('# host = "my-resource"', "needed: the name of your own resource"))
    elif preset.key is None:
        lines.append(_line('# host = "gpu-7:8000"', "where it is not on this machine"))
    return _SIMULATOR.sub(lambda _: "".join(f"{line}\n" for line in lines), text)


def _line(setting: str, comment: str) -> str:
    return f"{setting:<{_WIDTH}}# {comment}"


def _ignore_keys(directory: Path) -> Path | None:
    """Keep `.env` of a directory out of git, where there are no rules for that yet; return the file with the rule."""
    path = directory / _IGNORED
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(f"{env_file.NAME}\n")
    except OSError:  # there is one, which is the user's
        return None
    return path
