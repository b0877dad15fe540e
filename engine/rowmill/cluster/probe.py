"""What a node is asked before anything is started there, by value: there may be no Rowmill on it.

It answers what it has, and is given the package where it has none.
"""

import hashlib
import io
import platform
import re
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from rowmill.cluster.needs import Need
from rowmill.core.plain_text import clipped, one_line
from rowmill.core.version import __version__

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_PACKAGE = Path(__file__).parents[1]

# A node without Rowmill is given the driver's, which stays for others that ask for the very same. The directory for
# temporary files is everybody's: what lies there under that name is used only where nobody else can have written it.
SENT = """
def nothing():
    pass

def probe(version, name, package, needed, imported):
    import importlib.metadata, importlib.util, io, os, platform, stat, sys, tempfile, zipfile
    found, where = None, ""
    if importlib.util.find_spec("rowmill") is not None:
        from rowmill.core.version import __version__ as found
    elif package is not None:
        where = os.path.join(tempfile.gettempdir(), name + "-" + str(os.getuid()))
        def ours():
            there = os.lstat(where)
            return stat.S_ISDIR(there.st_mode) and there.st_uid == os.getuid() and not there.st_mode & 0o022
        if not os.path.lexists(where) or not ours():
            made = tempfile.mkdtemp(prefix=name)
            zipfile.ZipFile(io.BytesIO(package)).extractall(made)
            try:
                os.rename(made, where)
            except OSError:
                if not ours():
                    where = made
        sys.path.insert(0, where)
        found = version
    lacking = []
    for each in needed:
        try:
            importlib.metadata.version(each)
        except importlib.metadata.PackageNotFoundError:
            lacking.append(each)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    failed = {}
    for each in () if lacking else imported:
        try:
            importlib.import_module(each)
        except BaseException as error:
            failed[each] = f"{type(error).__name__}: {error}"
    return platform.python_version(), found, where, lacking, failed
"""


class NodePython(NamedTuple):
    """What a node has answered of its Python."""

    python: str  # its version
    version: str | None  # of Rowmill
    path: str  # where it has the package that it was given; empty where it was given none
    lacking: list[str]  # packages that Rowmill needs
    failed: dict[str, str]  # modules that the run needs and that cannot be imported -> why


def by_value(name: str) -> Any:
    """Return a function that is sent as it is."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(SENT, "<sent>", "exec"), scope)  # noqa: S102 - so it is of no module
    return scope[name]


def asked(package: bytes, needs: Sequence[Need]) -> tuple[str, str, bytes, list[str], list[str]]:
    """Return what the probe is called with. package: this one, as `packed`."""
    name = f"rowmill-{__version__}-{hashlib.sha256(package).hexdigest()[:16]}"
    return __version__, name, package, needed(), [need.module for need in needs]


def refused(found: NodePython, needs: Sequence[Need]) -> str | None:
    """Say why no worker can be on a node that has answered so, as it follows the node's name; None where one can."""
    ours = platform.python_version()
    if found.python.split(".")[:2] != ours.split(".")[:2]:
        return f"has Python {found.python} and the driver {ours}: have the same on both, or set cluster.runtime_env"
    if found.version != __version__:
        return f"has Rowmill {found.version} and the driver {__version__}: have the same on both, or none there"
    if found.lacking:
        return (
            f"lacks {', '.join(found.lacking)}: install Rowmill there, or set "
            'cluster.runtime_env = {pip = ["rowmill"]}'
        )
    for need in needs:
        if (why := found.failed.get(need.module)) is not None:
            return f"cannot import {need.module} {need.what_for} ({clipped(one_line(why))}): {need.remedy}"
    return None


def packed() -> bytes:
    """Return this package as a ZIP file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(_PACKAGE.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, Path(_PACKAGE.name) / path.relative_to(_PACKAGE))
    return file.getvalue()


def needed() -> list[str]:
    """Return the packages that Rowmill needs, as they are installed here."""
    with suppress(metadata.PackageNotFoundError):
        lines = [line.partition(";") for line in metadata.requires("rowmill") or []]
        named = [(found[0], marker) for line, _, marker in lines if (found := _NAME.match(line))]
        return [name for name, marker in named if not marker or ("extra" not in marker and _is_here(name))]
    return []


def _is_here(name: str) -> bool:
    """Tell whether this Python has a package that not every Python needs."""
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
