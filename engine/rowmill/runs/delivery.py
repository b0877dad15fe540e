"""Outputs on other machines: written here first, whole and synced, and uploaded once the run is finished.

What is written here lies in the run directory and stays there: a run whose upload was broken off uploads it again, and
one that is retried knows its output as its own.
"""

from pathlib import Path

import msgspec

from rowmill.core.config import Config
from rowmill.core.errors import InputError
from rowmill.files import remote
from rowmill.store import manifest as manifests
from rowmill.store.manifest import Manifest
from rowmill.store.run_directory import RunDirectory
from rowmill.supervisor.prepared import Delivery


def delivery_of(config: Config) -> Delivery | None:
    """Return where this configuration's output goes; None where that is this machine."""
    output, errors = config.output.path, config.output.errors
    if not remote.is_remote(output):
        if errors is not None and remote.is_remote(errors):
            raise InputError(f"output.errors: {remote.shown(errors)} is on another machine, and output.path is not")
        return None
    if errors is None:
        place, _, name = output.rstrip("/").rpartition("/")
        errors = f"{place}/{Path(name).stem}.errors.jsonl"
    return Delivery(output, errors)


def staged(config: Config, delivery: Delivery) -> Config:
    """Return the configuration with both files in the run directory."""
    folder = config.run_dir / "output"
    slash = "/" if delivery.output.endswith("/") else ""
    output = msgspec.structs.replace(
        config.output,
        path=f"{folder / delivery.output.rstrip('/').rpartition('/')[2]}{slash}",
        errors=str(folder / delivery.errors.rpartition("/")[2]),
    )
    checkpoint = msgspec.structs.replace(config.checkpoint, dir=str(config.run_dir))
    return msgspec.structs.replace(config, output=output, checkpoint=checkpoint)


def check(delivery: Delivery, manifest: Manifest | None) -> None:
    """Refuse what could not be written, or is not of this run. Raises `InputError`, or as `remote.exists` does."""
    done = manifest.finished if manifest is not None else None
    if done is not None and done.delivered == delivery.output:
        return
    for key, url in (("output.path", delivery.output), ("output.errors", delivery.errors)):
        remote.check_writable(url)
        if remote.exists(url):
            raise InputError(
                f"{key}: {remote.shown(url)} exists and is not of this run; move it away, or choose another path"
            )


def deliver(delivery: Delivery, directory: RunDirectory, manifest: Manifest) -> None:
    """Upload what is finished, unless it was. Raises `MachineError` where the connection fails: do it again."""
    done = manifest.finished
    assert done is not None
    if done.delivered is not None:
        return
    if done.errors is not None:
        remote.upload(Path(done.errors), delivery.errors)
    remote.upload(Path(done.output), delivery.output)
    manifest.finished = msgspec.structs.replace(done, delivered=delivery.output)
    manifests.save(directory.manifest, manifest)
