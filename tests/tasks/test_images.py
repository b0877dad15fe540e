"""Image columns: what stands for an image, and that nothing else of this machine can be sent."""

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rowmill.core.errors import InvalidRow
from rowmill.tasks.images import LARGEST_BYTES, image_urls

ROOT = Path("/")  # everything lies below it
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


def urls(value: Any) -> list[str]:
    return image_urls(value, ROOT)


def refused(value: Any, root: Path | None = ROOT) -> str:
    with pytest.raises(InvalidRow) as error:
        image_urls(value, root)
    return str(error.value)


@pytest.mark.parametrize(
    "url", ["http://x.example/a.png", "HTTPS://x.example/a", "data:image/png;base64,AAAA", "https://x/?a=b c"]
)
def test_a_url_is_passed_on_as_it_is(url: str) -> None:
    assert urls(url) == [url]


@pytest.mark.parametrize("kind", HEADS)
def test_a_file_is_read_and_its_type_told_from_its_content(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.of.a cat"
    path.write_bytes(HEADS[kind])
    assert urls(str(path)) == [f"data:{kind};base64,{text(HEADS[kind])}"]
    assert urls(path.as_uri()) == urls(str(path))


def test_a_path_is_relative_to_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(JPEG)
    monkeypatch.chdir(tmp_path)
    assert urls("a.png") == [f"data:image/jpeg;base64,{text(JPEG)}"]


def test_a_path_is_relative_to_the_directory_with_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or, where it has no such file, to the current one: many write down what the program sees."""
    (tmp_path / "data" / "photos").mkdir(parents=True)
    (tmp_path / "data" / "photos" / "a.png").write_bytes(JPEG)
    monkeypatch.chdir(tmp_path)
    for name in ("photos/a.png", "data/photos/a.png", "photos/../photos/./a.png", str(tmp_path / "data/photos/a.png")):
        assert image_urls(name, Path("data")) == [f"data:image/jpeg;base64,{text(JPEG)}"]


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png", "/etc/passwd", "/etc/none", "link.png", "linked/secret.png", "data/../../secret.png",
        "file:///etc/passwd", "FILE://localhost/etc/passwd", "file:///%2e%2e/etc/passwd", "/proc/self/environ",
        "/proc/self/cwd/../secret.png", "/dev/zero", "../data-of-others/a.png", "..",
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [str, lambda name: [name], lambda name: {"bytes": None, "path": name}])
def test_a_file_that_lies_elsewhere_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, shape: Callable[[str], Any]
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (tmp_path / "data-of-others").mkdir()
    for path in (tmp_path / "secret.png", tmp_path / "data-of-others" / "a.png"):
        path.write_bytes(PNG)
    (root / "link.png").symlink_to("../secret.png")
    (root / "linked").symlink_to("..")
    monkeypatch.chdir(root)
    assert f"lies outside of {root}: set input.images_dir" in refused(shape(name), root)


def test_without_a_directory_no_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    assert "set input.images_dir to read it" in refused(str(tmp_path / "a.png"), None)
    assert image_urls("https://x/a.png", None) == ["https://x/a.png"]


def test_what_hugging_face_stores_is_read() -> None:
    url = f"data:image/png;base64,{text(PNG)}"
    assert urls({"bytes": text(PNG), "path": "a.jpg"}) == [url]
    assert urls({"bytes": text(PNG), "path": None}) == [url]
    assert urls({"bytes": None, "path": "https://x/a.png"}) == ["https://x/a.png"]
    assert urls({"path": "https://x/a.png"}) == ["https://x/a.png"]
    assert urls(text(PNG)) == [url], "a column of bytes"


def test_no_image_is_none_and_a_list_is_several() -> None:
    assert urls(None) == urls("") == urls([]) == urls({"bytes": None, "path": None}) == []
    assert urls(["https://x/a", None, "https://x/b"]) == ["https://x/a", "https://x/b"]


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
    assert len(urls(str(path))[0]) > LARGEST_BYTES


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
