"""The configuration that a command line names, and the commands that go on with its run."""

import argparse
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rowmill.core.errors import ConfigError, RowmillError

if TYPE_CHECKING:
    from rowmill.core.config import Config
    from rowmill.interface.ui.report import Again


def config_of(options: argparse.Namespace) -> "Config":
    """Load it, with what --set changes. Raises `ConfigError`; where it names rows, with what to type instead."""
    from rowmill.core import config as configuration

    path: Path = options.config
    if path.suffix != ".toml" and path.exists():
        from rowmill.runs.piped_rows import is_named_as_rows

        if is_named_as_rows(str(path)) and (advice := _about_rows(path)):  # it may be too large to be read as a text
            raise ConfigError(advice)
    try:
        return configuration.load(path, options.set)
    except ConfigError:
        if path.suffix != ".toml" and path.exists() and (advice := _about_rows(path)):
            raise ConfigError(advice) from None
        raise


def environ_of(options: argparse.Namespace, config: "Config") -> Mapping[str, str]:
    """Return the environment, with what `.env` has of the variables that the configuration names.

    It lies beside the configuration's file; where there is none, as for `map`, in the current directory.
    Raises `ConfigError` for a file that is needed and cannot be used.
    """
    from rowmill.core.config.credentials import environment

    return environment(config, os.environ, getattr(options, "config", Path()).parent)


def run_of(options: argparse.Namespace, named: str) -> "tuple[Path, Config | None]":
    """Return the run directory that RUN of a command line means, and its configuration where it names that.

    Raises `ConfigError` as `config_of` does. Of a directory its reader says whether it holds a run.
    """
    options.config = Path(named)
    if options.config.is_dir():
        return options.config, None
    config = config_of(options)
    return config.run_dir, config


def _about_rows(path: Path) -> str | None:
    """Say what to type where somebody has named rows and no configuration; None where they are none."""
    from rowmill.runs import piped_rows

    try:
        columns = [piped_rows.TEXT] if piped_rows.is_lines(str(path)) else piped_rows.columns_of(str(path))
    except RowmillError:
        return None
    if not columns:
        return None
    output = path.with_name(f"{path.name.partition('.')[0]}.answers{'.csv' if '.csv' in path.suffixes else '.jsonl'}")
    return (
        f"{path} holds rows, and is no configuration. To ask about each row: rowmill map {shlex.quote(str(path))} "
        f"-m MODEL -p {shlex.quote(f'... {{{columns[0]}}}')} -o {shlex.quote(str(output))}"
    )


def again(options: argparse.Namespace) -> "Again":
    """Return the commands that go on with a run."""
    from rowmill.core.config.hidden import typed
    from rowmill.interface.ui.report import of_config

    words = [str(options.config), *(word for each in options.set for word in ("--set", typed(each)))]
    for name in ("limit", "sample"):
        if (rows := getattr(options, name, None)) is not None:
            words += [f"--{name}", str(rows)]
            trial = of_config(shlex.join(words))
            return trial._replace(fresh=trial.run)  # another question is another trial
    return of_config(shlex.join(words))
