"""Certificates that the configuration or the environment names are there, and are some."""

from pathlib import Path

import pytest
import trustme

from rowmill.core.config.credentials import endpoint
from rowmill.core.config.sections import ProviderConfig
from rowmill.core.config.trust import check_environment, trusted
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
