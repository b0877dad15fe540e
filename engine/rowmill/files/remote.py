"""Files of other machines, through fsspec: "s3://bucket/key" with s3fs, and whatever its file systems bring.

Everything here blocks and is for the supervisor's threads. Data goes through in blocks, in bounded memory. Endpoints
and credentials are those of the environment, as each file system reads them (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
FSSPEC_S3_ANON=true for public buckets); so are retries. This is the one edge where the errors of these packages become
ours, and no text that leaves it holds a password or the query of a URL, which may be a signature.
"""

import contextlib
import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rowmill.core.errors import ConfigError, InputError, MachineError, RowmillError
from rowmill.core.rows import InputFile

BLOCK = 8 << 20  # bytes a request: large enough that its latency counts little
_PIECES = 9_000  # that an object may be uploaded in: S3, which calls them parts, allows 10,000
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two characters at least: one would be a Windows drive
_MAGIC = re.compile(r"[*?\[]")
_UNSIGNED = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "NoAuthTokenError"}
_PROVIDED = {"s3": "rowmill[s3]", "s3a": "rowmill[s3]"}  # schemes whose package comes with an extra


def is_remote(path: str) -> bool:
    """Tell whether this is a URL of a file system rather than a path of this machine."""
    return _SCHEME.match(path) is not None


def find_files(url: str) -> list[InputFile]:
    """Return the files of an object's URL, a directory or prefix, or a glob, in the order of their names.

    Below a directory, whatever has a "." or "_" at the start of its name, or of its folder's, is left out. Raises
    `InputError` where there are none, and what `translated` does.
    """
    with translated(url):
        system, path = opened(url)
        found = _listed(system, path, url)
    if not found:
        raise InputError(f"{shown(url)}: no such file, and no files below it; set input.path to what there is")
    # The URL of another file: what the file system has cut off from the front, and the file's path in it.
    base, same = url.rstrip("/"), path.rstrip("/")
    front = base[: len(base) - len(same)] if base.endswith(same) else None
    return [
        InputFile(
            path=url if name == path else system.unstrip_protocol(name) if front is None else front + name,
            size=int(info.get("size") or 0),
            mtime_ns=_mtime_ns(info),
        )
        for name, info in sorted(found.items())
    ]


def upload(source: Path, url: str) -> None:
    """Copy a file, or all files of a directory, to a URL, each in pieces, and look whether it arrived whole.

    An object is there whole or not at all; of a directory some may be there. Raises what `translated` does, and
    `MachineError` where it did not.
    """
    if source.is_dir():
        for file in sorted(file for file in source.rglob("*") if file.is_file()):
            _upload_file(file, f"{url.rstrip('/')}/{file.relative_to(source).as_posix()}")
    else:
        _upload_file(source, url)


def read_range(url: str, start: int, end: int) -> bytes:
    """Return bytes of a file. Raises what `translated` does."""
    with translated(url):
        system, path = opened(url)
        data: bytes = system.cat_file(path, start=start, end=end)
    return data


def exists(url: str) -> bool:
    """Tell whether there is a file, or at least one file below it. Raises what `translated` does."""
    with translated(url):
        system, path = opened(url)
        try:
            system.info(path)
        except FileNotFoundError:
            return False
    return True


def check_writable(url: str) -> None:
    """Raise where nothing could be written there, as `translated` does. Writes nothing.

    On S3 an upload is begun and given up, which shows nowhere; elsewhere it is only seen that the place answers.
    """
    with translated(url):
        system, path = opened(url)
        if hasattr(system, "call_s3"):
            bucket, _, key = path.partition("/")
            begun = system.call_s3("create_multipart_upload", Bucket=bucket, Key=key or "_")
            with contextlib.suppress(PermissionError):  # a right of its own, which an upload does not need
                system.abort_mpu(bucket, key or "_", begun["UploadId"])
            return
    exists(url)


def shown(text: str) -> str:
    """Return a URL, or a text with URLs in it, as it may stand in messages: one line without user, password, query."""
    text = re.sub(r"(?<=://)[^/\s@]+@", "", " ".join(text.split()))
    return re.sub(r"(://[^\s?\"']+)\?[^\s\"']*", r"\1", text)


def _upload_file(source: Path, url: str) -> None:
    size = source.stat().st_size
    block = max(BLOCK, -(-size // _PIECES))
    with translated(url):
        system, path = opened(url)
        target = system.open(path, "wb", block_size=block)
    try:
        with local(source, "rb") as file:
            while data := file.read(block):
                with translated(url):
                    target.write(data)
        with translated(url):
            target.close()
    except BaseException:
        # Closing it would make an object of what has been sent, and so would letting it go.
        with contextlib.suppress(Exception):
            target.discard()
        target.closed = True
        raise
    with translated(url):
        system.invalidate_cache()
        arrived = system.info(path).get("size")
    if arrived != size:
        raise MachineError(f"{shown(url)}: {arrived} of {size} bytes arrived; run the same command again")


def opened(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and its path there."""
    if urlsplit(url).password is not None:
        raise ConfigError(
            f"{shown(url)}: a password in a URL would be kept in the run directory; take it out, and set it in the "
            f"environment, as FSSPEC_{urlsplit(url).scheme.upper()}_PASSWORD"
        )
    import fsspec  # type: ignore[import-untyped]  # it ships no types

    system, path = fsspec.core.url_to_fs(url)
    system.invalidate_cache()  # file systems are kept, with listings of earlier
    return system, path


def _listed(system: Any, path: str, url: str) -> dict[str, Any]:
    """Return name and description of each file that the URL means."""
    try:
        info = system.info(path)
        if info["type"] == "file" and not url.endswith("/"):
            return {path: info}
    except FileNotFoundError:
        if _MAGIC.search(path) and not url.startswith(("http://", "https://")):
            return _files(system.glob(path, detail=True))
    below = len(path.rstrip("/")) + 1
    return {
        name: info
        for name, info in _files(system.find(path + "/", detail=True)).items()
        if not any(each.startswith((".", "_")) for each in name[below:].split("/"))
    }


def _files(infos: dict[str, Any]) -> dict[str, Any]:
    return {name: info for name, info in infos.items() if info["type"] == "file" and not name.endswith("/")}


def _mtime_ns(info: dict[str, Any]) -> int:
    for key in ("LastModified", "mtime", "last_modified", "updated", "modified", "created"):
        match info.get(key):
            case dt.datetime() as when:
                return int(when.timestamp()) * 10**9 + when.microsecond * 1000
            case int() | float() as seconds:
                return int(seconds * 10**9)
            case _:
                pass
    return 0


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn whatever the file systems raise into ours: each brings the exceptions of its own client.

    Raises `InputError` where the file is not there or access is denied, `ConfigError` where a package or credentials
    are missing, and `MachineError` for the rest: the connection, most of all.
    """
    try:
        yield
    except RowmillError:
        raise
    except ImportError as error:
        scheme = urlsplit(url).scheme
        package = f"pip install '{_PROVIDED[scheme]}'" if scheme in _PROVIDED else shown(str(error))
        raise ConfigError(f"{shown(url)}: the package for {scheme}:// is not installed: {package}") from None
    except FileNotFoundError as error:
        raise InputError(f"{shown(url)}: is not there: {shown(str(error))}; check the bucket and the path") from None
    except PermissionError as error:
        raise InputError(
            f"{shown(url)}: access is denied: {shown(str(error))}; check the credentials and their rights"
        ) from None
    except Exception as error:  # noqa: BLE001 - botocore's, aiohttp's, paramiko's ...
        if type(error).__name__ in _UNSIGNED:
            raise ConfigError(
                f"{shown(url)}: there are no credentials: {shown(str(error))}; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or FSSPEC_S3_ANON=true for a public bucket"
            ) from None
        if isinstance(error, ValueError) and str(error).startswith("Protocol not known"):
            raise ConfigError(f"{shown(url)}: no file system is known by this name; correct the URL") from None
        raise MachineError(
            f"{shown(url)}: failed: {type(error).__name__}: {shown(str(error))}; check the network and the endpoint, "
            "and run the same command again"
        ) from None


@contextlib.contextmanager
def local(path: Path, mode: str) -> Iterator[Any]:
    """Open this machine's own file. Its errors become a `MachineError`."""
    try:
        with path.open(mode) as file:
            yield file
    except OSError as error:
        reason = error.strerror or error
        raise MachineError(
            f"{path}: {reason}; make room or correct its rights, and run the same command again"
        ) from None
