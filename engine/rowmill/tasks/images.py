"""A column's value -> the URLs of its images, as a request carries them.

A value is a URL (http, https or data:), the path of a local file, the image itself as base64, or what Hugging Face
datasets store: `{"bytes": base64 or null, "path": text or null}`; null and "" are no image, a list holds several.
Of files only those that a row may name are read (`local_files`); and one that is no image is refused whatever its name.
"""

import base64
import binascii
from pathlib import Path
from typing import Any

from rowmill.core.errors import InvalidRow
from rowmill.tasks import local_files

LARGEST_BYTES = 20 * 1024 * 1024  # of one image: no API takes more

_KIND = local_files.FileKind("image", "input.images_dir", LARGEST_BYTES)
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
        raise InvalidRow(local_files.too_large(len(data), _KIND))
    kind = _type_of(data)
    if kind is None:
        raise InvalidRow("holds bytes that are no image of a known type")
    return f"data:{kind};base64,{text}"


def _of_file(name: str, root: Path | None) -> str:
    if "://" in name and not name.lower().startswith("file://"):
        raise InvalidRow(f"holds {name[:100]!r}, which is neither an http(s) or data: URL nor a local file")
    if root is None:
        raise InvalidRow(
            f"{local_files.shown(name)} is a file of this machine, and the input is not: set {_KIND.key} to read it"
        )
    with local_files.opened(name, root, _KIND) as file:
        data = file.read(LARGEST_BYTES)
    kind = _type_of(data)
    if kind is None:
        raise InvalidRow(f"{local_files.shown(name)} is no image of a known type")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


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
