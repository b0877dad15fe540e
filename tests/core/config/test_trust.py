"""Certificates that the configuration or the environment names are there, and are some."""

from pathlib import Path

import pytest
import trustme

from rowmill.core.config.credentials import endpoint
from rowmill.core.config.sections import ProviderConfig
from rowmill.core.config.trust import check_environment, identity, trusted
from rowmill.core.errors import ConfigError


@pytest.fixture(scope="module")
def pem() -> str:
    return trustme.CA(key_type=trustme.KeyType.ECDSA).cert_pem.bytes().decode()


def test_only_certificates_are_taken_out_of_a_file(tmp_path: Path, pem: str) -> None:
    path = tmp_path / "bundle"
    path.write_bytes(
        b"# caf\xe9\r\n" + pem.encode() + b"-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----\n" * 2
    )
    found = trusted("client.ca_file", str(path))
    assert found.count("BEGIN") == 1
    assert "PRIVATE" not in found


def test_the_providers_own_file_wins_and_plain_http_needs_none(tmp_path: Path, pem: str) -> None:
    (tmp_path / "ca").write_text(pem)
    mine, none = str(tmp_path / "ca"), str(tmp_path / "none")
    assert "BEGIN" in endpoint(ProviderConfig(base_url="https://h/v1", ca_file=mine), {}, none).ca
    assert "BEGIN" in endpoint(ProviderConfig(base_url="https://h/v1"), {}, mine).ca
    assert endpoint(ProviderConfig(base_url="https://h/v1"), {}).ca == ""
    assert endpoint(ProviderConfig(base_url="http://h/v1", ca_file=none), {"SSL_CERT_FILE": none}).ca == ""
    with pytest.raises(ConfigError, match=r"^client\.ca_file: .*none cannot be read"):
        endpoint(ProviderConfig(base_url="HTTPS://h/v1"), {}, none)


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^k: .* cannot be read: Is a directory"):
        trusted("k", str(tmp_path))
    with pytest.raises(ConfigError, match="holds no certificate"):
        trusted("k", "/dev/zero")
    with pytest.raises(ConfigError, match="is no name of a file"):
        trusted("k", "a\0b")


def test_variables_that_name_nothing_are_told(tmp_path: Path, pem: str) -> None:
    (tmp_path / "ca").write_text(pem)
    for good in (
        {},
        {"SSL_CERT_FILE": ""},
        {"SSL_CERT_FILE": str(tmp_path / "ca")},
        {"SSL_CERT_DIR": f"/no:{tmp_path}"},
    ):
        check_environment(good)
    with pytest.raises(ConfigError, match=r"SSL_CERT_FILE: .*none cannot be read"):
        check_environment({"SSL_CERT_FILE": str(tmp_path / "none")})
    with pytest.raises(ConfigError, match="SSL_CERT_DIR: /no:/where is no directory"):
        check_environment({"SSL_CERT_DIR": "/no:/where"})


def test_a_certificate_and_its_key_are_shown_from_one_file_or_from_two(tmp_path: Path) -> None:
    made = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert("me.example")
    (tmp_path / "both").write_bytes(b"# caf\xe9\n" + made.private_key_and_cert_chain_pem.bytes())
    (tmp_path / "cert").write_bytes(b"".join(each.bytes() for each in made.cert_chain_pems))
    (tmp_path / "key").write_bytes(made.private_key_pem.bytes())
    both, cert, key = (str(tmp_path / name) for name in ("both", "cert", "key"))
    assert identity("p", both, None) == identity("p", cert, key)
    found = endpoint(ProviderConfig(base_url="https://h/v1", cert_file=cert, key_file=key), {})
    assert "PRIVATE" in found.identity
    assert "PRIVATE" not in repr(found)
    assert endpoint(ProviderConfig(base_url="http://h/v1", cert_file="/none"), {}).identity == ""
    with pytest.raises(ConfigError, match=r"provider\.key_file is the key of a cert_file: set that, too"):
        endpoint(ProviderConfig(base_url="https://h/v1", key_file=key), {})


def test_what_is_no_certificate_with_its_key_is_told(tmp_path: Path) -> None:
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    mine, other = (authority.issue_cert(name) for name in ("a.example", "b.example"))
    cert, key, locked = (tmp_path / name for name in ("cert", "key", "locked"))
    cert.write_bytes(mine.cert_chain_pems[0].bytes())
    key.write_bytes(other.private_key_pem.bytes())
    body = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
    locked.write_bytes(body)
    for key_file, words in (
        (None, r"provider\.cert_file: .*cert holds no key in PEM \(-----BEGIN PRIVATE KEY-----\)"),
        (str(key), r"provider\.cert_file: .*cert and its key cannot be used \(KEY_VALUES_MISMATCH\)"),
        (str(locked), r"cannot be used \(the key has a password, or is none\)"),
        (str(tmp_path / "none"), r"provider\.key_file: .*none cannot be read"),
    ):
        with pytest.raises(ConfigError, match=words):
            identity("provider 'p'", str(cert), key_file)
