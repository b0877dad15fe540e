"""Image columns: what stands for an image, and that nothing else of this machine can be sent."""

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from rowmill.core.errors import InvalidRow
from rowmill.tasks.images import LARGEST_BYTES, image_urls

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 60
JPEG = b"\xff\xd8\xff\xe0" + b"\0" * 60
HEADS = {
    "image/png": PNG,
    "image/jpeg": JPEG,
    "image/gif": b"GIF89a" + b"\0" * 60,
    "image/webp": b"RIFF\0\0\0\0WEBPVP8 " + b"\0" * 60,
    "image/bmp": b"BM\x36\0\0\0\0\0\0\0" + b"\0" * 60,
    "image/tiff": b"II*\0" + b"\0" * 60,
    "image/avif": b"\0\0\0\x1cftypavif" + b"\0" * 60,
    "image/heic": b"\0\0\0\x18ftypheic" + b"\0" * 60,
}


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def refused(value: Any) -> str:
    with pytest.raises(InvalidRow) as error:
        image_urls(value)
    return str(error.value)


@pytest.mark.parametrize(
    "url", ["http://x.example/a.png", "HTTPS://x.example/a", "data:image/png;base64,AAAA", "https://x/?a=b c"]
)
def test_a_url_is_passed_on_as_it_is(url: str) -> None:
    assert image_urls(url) == [url]


@pytest.mark.parametrize("kind", HEADS)
def test_a_file_is_read_and_its_type_told_from_its_content(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.of.a cat"
    path.write_bytes(HEADS[kind])
    assert image_urls(str(path)) == [f"data:{kind};base64,{text(HEADS[kind])}"]
    assert image_urls(path.as_uri()) == image_urls(str(path))


def test_a_path_is_relative_to_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(JPEG)
    monkeypatch.chdir(tmp_path)
    assert image_urls("a.png") == [f"data:image/jpeg;base64,{text(JPEG)}"]


def test_what_hugging_face_stores_is_read() -> None:
    url = f"data:image/png;base64,{text(PNG)}"
    assert image_urls({"bytes": text(PNG), "path": "a.jpg"}) == [url]
    assert image_urls({"bytes": text(PNG), "path": None}) == [url]
    assert image_urls({"bytes": None, "path": "https://x/a.png"}) == ["https://x/a.png"]
    assert image_urls({"path": "https://x/a.png"}) == ["https://x/a.png"]
    assert image_urls(text(PNG)) == [url], "a column of bytes"


def test_no_image_is_none_and_a_list_is_several() -> None:
    assert image_urls(None) == image_urls("") == image_urls([]) == image_urls({"bytes": None, "path": None}) == []
    assert image_urls(["https://x/a", None, "https://x/b"]) == ["https://x/a", "https://x/b"]


def test_a_file_that_is_no_image_is_never_sent(tmp_path: Path) -> None:
    for name, content in {"passwd": b"root:x:0:0::/root:/bin/sh\n" * 9, "a.png": b"no image", "b.jpg": b""}.items():
        (tmp_path / name).write_bytes(content)
        assert "is no image of a known type" in refused(str(tmp_path / name))


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    assert "No such file" in refused(str(tmp_path / "missing.png"))
    assert "is no file" in refused(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    assert "is no file" in refused(str(tmp_path / "pipe"))
    assert "no name of a file" in refused("a\0b")
    assert "neither an http(s)" in refused("s3://bucket/a.png")
    assert "File name too long" in refused("x" * 5000)


def test_an_image_that_no_api_takes_is_refused_for_its_size(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(PNG)
    os.truncate(path, LARGEST_BYTES + 1)
    assert "20.0 MiB, and an image may have 20" in refused(str(path))
    os.truncate(path, LARGEST_BYTES)
    assert len(image_urls(str(path))[0]) > LARGEST_BYTES


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (5, "holds no image"),
        ({"url": "https://x"}, "holds no image"),
        ({"bytes": [1, 2]}, "holds no image"),
        ({"bytes": "%%%%", "path": None}, "no base64"),
        ({"bytes": text(b"root:x:0:0"), "path": "a.png"}, "no image of a known type"),
        (text(PNG)[:-1] + "!", "no base64"),
    ],
)
def test_what_stands_for_no_image_says_why(value: Any, reason: str) -> None:
    assert reason in refused(value)
