"""Files of other machines, on a real S3-compatible server on this one."""

import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import s3fs  # type: ignore[import-untyped]  # it ships no types
from moto.server import ThreadedMotoServer

from rowmill.core.errors import ConfigError, ExitCode, InputError, MachineError
from rowmill.files.remote import check_writable, exists, find_files, is_remote, shown, upload
from rowmill.files.remote_file import download

SECRET = "a-secret-that-must-not-show"


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Serve an empty bucket, with the endpoint and the credentials in the environment."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().makedirs("rows", exist_ok=True)  # a server of another test leaves it behind
        yield "s3://rows"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def put(bucket: str) -> Any:
    """Return what stores an object under a name below the bucket."""

    def store(name: str, data: bytes) -> str:
        s3fs.S3FileSystem().pipe_file(f"rows/{name}", data)
        return f"{bucket}/{name}"

    return store


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("s3://bucket/key", True),
        ("gs://bucket/key", True),
        ("https://host/rows.csv", True),
        ("git+ssh://host/x", True),
        ("rows.jsonl", False),
        ("/data/rows.jsonl", False),
        ("C:\\rows.jsonl", False),
        ("c://rows.jsonl", False),
        ("dir/s3://x", False),
        ("", False),
    ],
)
def test_a_url_is_told_from_a_path(path: str, expected: bool) -> None:
    assert is_remote(path) is expected


def test_an_object_a_prefix_and_a_glob_are_found_in_name_order(bucket: str, put: Any) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.csv", "sub/d.jsonl", "_SUCCESS", ".hidden/e.jsonl"):
        put(f"found/{name}", name.encode())
    every = [f"{bucket}/found/{name}" for name in ("a.jsonl", "b.jsonl", "c.csv", "sub/d.jsonl")]
    assert [file.path for file in find_files(f"{bucket}/found/")] == every
    assert [file.path for file in find_files(f"{bucket}/found")] == every
    assert [file.path for file in find_files(f"{bucket}/found/*.jsonl")] == every[:2]
    (one,) = find_files(f"{bucket}/found/c.csv")
    assert (one.path, one.size) == (every[2], 5)
    assert one.mtime_ns > 1_700_000_000 * 10**9
    assert exists(every[0])
    assert exists(f"{bucket}/found/")
    assert not exists(f"{bucket}/found/z")


def test_a_new_object_is_found_at_once_although_listings_are_kept(bucket: str, put: Any) -> None:
    put("new/a", b"1")
    assert len(find_files(f"{bucket}/new/")) == 1
    s3fs.S3FileSystem(skip_instance_cache=True).pipe_file("rows/new/b", b"2")
    assert len(find_files(f"{bucket}/new/")) == 2


def test_a_name_with_the_signs_of_a_glob_is_an_object_where_there_is_one(bucket: str, put: Any) -> None:
    url = put("odd/rows[1].jsonl", b"{}")
    assert [file.path for file in find_files(url)] == [url]


def test_a_large_file_goes_there_in_parts_and_comes_back_in_blocks(bucket: str, tmp_path: Path) -> None:
    data = bytes(range(256)) * (12 << 10) * 7  # 21 MiB
    (tmp_path / "out.jsonl").write_bytes(data)
    upload(tmp_path / "out.jsonl", f"{bucket}/large/out.jsonl")
    seen: list[int] = []
    download(f"{bucket}/large/out.jsonl", tmp_path / "back", seen.append)
    assert (tmp_path / "back").read_bytes() == data
    assert seen == [8 << 20, 8 << 20, 5 << 20]
    assert "-3" in s3fs.S3FileSystem().info("rows/large/out.jsonl")["ETag"], "an upload of three parts"


def test_an_empty_file_and_a_directory_of_parts_are_copied(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "part-1").write_bytes(b"")
    (tmp_path / "parts" / "part-0").write_bytes(b"0")
    upload(tmp_path / "parts", f"{bucket}/parts/")
    assert [(file.path, file.size) for file in find_files(f"{bucket}/parts/")] == [
        (f"{bucket}/parts/part-0", 1),
        (f"{bucket}/parts/part-1", 0),
    ]
    download(f"{bucket}/parts/part-1", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b""


def test_an_upload_that_is_broken_off_leaves_nothing(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").write_bytes(b"x" * (20 << 20))
    write = s3fs.core.S3File.write
    calls = []

    def cut(self: Any, data: bytes) -> Any:
        calls.append(len(data))
        if len(calls) == 2:
            raise TimeoutError("the line is dead")
        return write(self, data)

    monkeypatch.setattr(s3fs.core.S3File, "write", cut)
    with pytest.raises(MachineError, match="the line is dead; check the network"):
        upload(tmp_path / "out", f"{bucket}/broken/out")
    assert not exists(f"{bucket}/broken/out")
    assert s3fs.S3FileSystem().call_s3("list_multipart_uploads", Bucket="rows").get("Uploads", []) == []


def test_what_the_progress_raises_ends_a_download(bucket: str, put: Any, tmp_path: Path) -> None:
    url = put("stop/a", b"x" * 100)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(url, tmp_path / "a", stop)


def test_a_file_that_came_shorter_than_its_size_is_refused(
    bucket: str, put: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = put("short/a", b"x" * 100)
    monkeypatch.setattr(s3fs.core.S3File, "read", lambda self, size, once=[b"x" * 40]: once.pop() if once else b"")
    with pytest.raises(MachineError, match="short/a: ended after 40 of 100 bytes; run the same command again"):
        download(url, tmp_path / "a")


def test_looking_whether_a_place_can_be_written_to_writes_nothing(bucket: str) -> None:
    for url in (f"{bucket}/fresh/out.jsonl", f"{bucket}/fresh/"):
        check_writable(url)
    assert not exists(f"{bucket}/fresh/")
    assert s3fs.S3FileSystem().call_s3("list_multipart_uploads", Bucket="rows").get("Uploads", []) == []
    with pytest.raises(InputError, match=r"s3://nowhere/out: is not there: .*bucket"):
        check_writable("s3://nowhere/out")


def test_what_is_not_there_is_named(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"s3://rows/none/\*: no such file"):
        find_files(f"{bucket}/none/*")
    with pytest.raises(InputError, match="s3://rows/none/: no such file"):
        find_files(f"{bucket}/none/")
    with pytest.raises(InputError, match=r"s3://rows/none: is not there: .*; check the bucket and the path"):
        download(f"{bucket}/none", tmp_path / "x")
    with pytest.raises(InputError, match="s3://nowhere/a"):
        find_files("s3://nowhere/a")
    with pytest.raises(InputError, match="s3://nowhere/a"):
        upload(Path(__file__), "s3://nowhere/a")


def test_without_credentials_it_says_which_to_set(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(ConfigError, match=r"no credentials.*AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        find_files(f"{bucket}/x")
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_server_that_is_gone_is_no_fault_of_the_configuration(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(MachineError, match="s3://rows/x: failed: EndpointConnectionError") as caught:
        exists(f"{bucket}/x")
    assert caught.value.exit_code is ExitCode.MACHINE
    assert SECRET not in str(caught.value)
    s3fs.S3FileSystem.clear_instance_cache()


def test_denied_access_is_said(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Denying(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Denying)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(
            InputError, match=r"s3://rows/x: access is denied: .*check the credentials and their rights"
        ):
            find_files(f"{bucket}/x")
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.shutdown()
        server.server_close()


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(ConfigError, match=r"s3://a/b: the package for s3:// is not installed: pip .*'rowmill\[s3\]'"):
        find_files("s3://a/b")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ConfigError, match=r"the package for gs:// is not installed: .*gcsfs"):
        find_files("gs://a/b")
    with pytest.raises(ConfigError, match="nothing://a: no file system is known"):
        find_files("nothing://a")


def test_no_secret_of_a_url_is_shown_and_none_is_kept() -> None:
    assert shown(f"https://me:{SECRET}@host/a?X-Amz-Signature={SECRET}") == "https://host/a"
    assert SECRET not in shown(f"cannot GET 'https://host/a?sig={SECRET}' from ftp://u:{SECRET}@host/b")
    with pytest.raises(ConfigError, match=r"ftp://host/a: a password in a URL .*FSSPEC_FTP_PASSWORD") as caught:
        find_files(f"ftp://me:{SECRET}@host/a")
    assert SECRET not in str(caught.value)


def test_any_file_system_of_the_library_will_do(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"rows")
    upload(tmp_path / "in", "memory://here/a.jsonl")
    (found,) = find_files("memory://here/")
    assert (found.path, found.size) == ("memory://here/a.jsonl", 4)
    download(found.path, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"rows"
    check_writable("memory://here/b.jsonl")
