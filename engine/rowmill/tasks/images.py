"""A column's value -> the URLs of its images, as a request carries them.

A value is a URL (http, https or data:), the path of a local file, the image itself as base64, or what Hugging Face
datasets store: `{"bytes": base64 or null, "path": text or null}`; null and "" are no image, a list holds several.
A row of somebody else's data must not be able to send any file of this machine to a provider. So only files below one
directory are read, wherever links lead; and a file that is no image is refused whatever its name.
"""

import base64
import binascii
import os
import stat
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rowmill.core.errors import InvalidRow

LARGEST_BYTES = 20 * 1024 * 1024  # of one image: no API takes more

_REMOTE = ("http://", "https://", "data:image/")
_HEAD_BYTES = 32  # enough for every signature
_BRANDS = {b"avif": "image/avif", b"avis": "image/avif"} | dict.fromkeys(
    (b"heic", b"heix", b"hevc", b"mif1", b"msf1"), "image/heic"
)
_SHORTEST_BASE64 = 64  # characters; no image is smaller, and few paths are longer


def image_urls(value: Any, root: Path | None) -> list[str]:
    """Return the URLs of the images that a column's value stands for. Raises `InvalidRow` with the reason.

    root: the directory below which files are read, and which paths are relative to; None: no file is.
    """
    if value is None or value == "":
        return []
    if isinstance(value, list):
        return [url for each in value for url in image_urls(each, root)]
    if isinstance(value, dict) and ("bytes" in value or "path" in value):
        data, path = value.get("bytes"), value.get("path")
        if data is None:
            return image_urls(path, root)
        if isinstance(data, str):
            return [_of_base64(data)]
    if not isinstance(value, str):
        raise InvalidRow("holds no image: neither a URL, a path, base64 nor an object with bytes")
    if value.lower().startswith(_REMOTE):
        return [value]
    if len(value) >= _SHORTEST_BASE64 and _type_of(_start(value)) is not None:
        return [_of_base64(value)]
    return [_of_file(value, root)]


def _of_base64(text: str) -> str:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRow(f"holds an image that is no base64: {error}") from None
    if len(data) > LARGEST_BYTES:
        raise InvalidRow(_too_large(len(data)))
    kind = _type_of(data)
    if kind is None:
        raise InvalidRow("holds bytes that are no image of a known type")
    return f"data:{kind};base64,{text}"


def _of_file(name: str, root: Path | None) -> str:
    if "://" in name and not name.lower().startswith("file://"):
        raise InvalidRow(f"holds {name[:100]!r}, which is neither an http(s) or data: URL nor a local file")
    shown = repr(name[:200])
    if root is None:
        raise InvalidRow(f"{shown} is a file of this machine, and the input is not: set input.images_dir to read it")
    try:
        data = _content(_found(Path(unquote(urlsplit(name).path) if "://" in name else name), root, shown), shown)
    except OSError as error:
        raise InvalidRow(f"the image {shown} cannot be read: {error.strerror}") from None
    except ValueError as error:  # a NUL character, a URL that is none
        raise InvalidRow(f"{shown} is no name of a file: {error}") from None
    kind = _type_of(data)
    if kind is None:
        raise InvalidRow(f"{shown} is no image of a known type")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _found(path: Path, root: Path, shown: str) -> Path:
    """Return the real path of a file below the root. One that is not there may be named as the program sees it."""
    top = root.resolve()
    real = (top / path).resolve()
    if not path.is_absolute() and not (real.is_relative_to(top) and real.exists()) and path.exists():
        real = path.resolve()
    if not real.is_relative_to(top):
        # Not whether it is there: nobody's data is to find that out.
        raise InvalidRow(f"{shown} lies outside of {root}: set input.images_dir to a directory that holds the images")
    return real


def _content(real: Path, shown: str) -> bytes:
    if not stat.S_ISREG(real.stat().st_mode):  # a pipe would hold up every row, and a device may mind being opened
        raise InvalidRow(f"{shown} is no file")
    # Again what is opened: a link that has come to be since is not followed.
    fd = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidRow(f"{shown} is no file")
        if status.st_size > LARGEST_BYTES:
            raise InvalidRow(f"{shown} {_too_large(status.st_size)}")
        return file.read(status.st_size)


def _too_large(size: int) -> str:
    return f"has {size / 1024 / 1024:.1f} MiB, and an image may have {LARGEST_BYTES // 1024 // 1024}"


def _start(text: str) -> bytes:
    try:
        return base64.b64decode(text[: _HEAD_BYTES // 3 * 4], validate=True)
    except (binascii.Error, ValueError):
        return b""


def _type_of(data: bytes) -> str | None:
    """Tell the media type from the content: a name may lie, and a server that is told a wrong type may refuse."""
    for signature, kind in (
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"II*\0", "image/tiff"),
        (b"MM\0*", "image/tiff"),
    ):
        if data.startswith(signature):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12])
    if data[:2] == b"BM" and data[6:10] == b"\0\0\0\0":
        return "image/bmp"
    return None
