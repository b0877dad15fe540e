"""A trial before the million: some rows of a configuration's input, into an output of their own.

A trial lies beside the full run, as `out.trial.jsonl` and `out.trial.jsonl.run`, and shares nothing with it, so that it
can be read, judged and thrown away. Nor does it share the budget: what [budget] allows, the trial may spend by itself,
and the full run once more. The next one of other rows, with another prompt or model becomes
`out.trial-2.jsonl`, and so on: no answer is written over, and two prompts can be held side by side. The same trial
again is the same run again.
"""

import itertools
from collections.abc import Mapping
from pathlib import PurePath

import msgspec

from rowmill.core.config import Config
from rowmill.core.config.sections import NotifyConfig
from rowmill.core.errors import AtWork, RunDirectoryError
from rowmill.core.reports import Observer, RunReport, SessionReport
from rowmill.runs.session import run


def run_trial(
    config: Config,
    environ: Mapping[str, str],
    observer: Observer,
    *,
    limit: int | None = None,
    sample: int | None = None,
    salvage: bool = False,
    retry: bool = False,
) -> tuple[Config, RunReport, SessionReport | None]:
    """Run the first `limit` rows, or `sample` rows from all over the input; return the trial's configuration too.

    retry: ask again for the failed rows of the trial of these rows. Raises `RunDirectoryError` where there is none.
    """
    for number in itertools.count(1):
        own = trial(config, number)
        if own.output_path.exists() and not own.run_dir.exists():
            continue  # somebody keeps that output
        known = own.run_dir.exists()
        if retry and not known:
            raise RunDirectoryError(f"{own.run_dir}: there is no trial of these rows to retry")
        try:
            return own, *run(own, environ, observer, limit=limit, sample=sample, salvage=salvage, retry=retry)
        except RunDirectoryError as error:
            if not known or isinstance(error, AtWork):
                raise  # it is not for being the run of another trial
    raise AssertionError("there is always another number")


def trial(config: Config, number: int = 1) -> Config:
    """Return the configuration with the places of a trial: output, errors file and run directory.

    Nobody is told of one, nor waited for that scrapes its metrics: who tries sits before it.
    """
    own = marked(config, "trial" if number == 1 else f"trial-{number}")
    metrics = msgspec.structs.replace(own.metrics, linger_s=0.0)
    return msgspec.structs.replace(own, notify=NotifyConfig(), metrics=metrics)


def marked(config: Config, mark: str) -> Config:
    """Return the configuration with places of its own, named by a mark beside those that it has."""
    output = msgspec.structs.replace(
        config.output,
        path=_marked(config.output.path, mark),
        errors=None if config.output.errors is None else _marked(config.output.errors, mark),
    )
    directory = config.checkpoint.dir
    own = None if directory is None else f"{directory.rstrip('/')}-{mark}"
    checkpoint = msgspec.structs.replace(config.checkpoint, dir=own)
    return msgspec.structs.replace(config, output=output, checkpoint=checkpoint)


def _marked(path: str, mark: str) -> str:
    """Put the mark into the name, before its suffix; the path is a file's, a directory's with its slash, or a URL."""
    body = path.rstrip("/")
    slash = path[len(body) :]
    suffix = PurePath(body).suffix
    # Without a suffix a dot would make one of the mark, and the errors file is named by what stands before the suffix.
    return f"{body.removesuffix(suffix)}.{mark}{suffix}{slash}" if suffix else f"{body}-{mark}{slash}"
