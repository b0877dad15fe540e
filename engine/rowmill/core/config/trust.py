"""Whose certificates a run trusts beside the machine's own: the file that the configuration names.

`SSL_CERT_FILE` and `SSL_CERT_DIR` stand for the machine's own; each client reads them by itself. Here it is only looked
whether they can be what they are meant for, as a run that trusts nobody would fail row by row.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from rowmill.core.errors import ConfigError

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
_LARGEST_BYTES = 16 << 20  # of a file with certificates: the largest bundles have half a megabyte


def trusted(key: str, name: str) -> str:
    """Return the certificates of a file as PEM, without what stands between them.

    key: which names the file, for messages. Raises `ConfigError` where there are none, or not all of them can be read.
    """
    import ssl  # only here: most runs name no file

    pem = "\n".join(_certificates(key, Path(name).expanduser())) + "\n"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except ssl.SSLError as error:
        raise ConfigError(f"{key}: {name} holds a certificate that cannot be read ({error.reason})") from None
    return pem


def check_environment(environ: Mapping[str, str]) -> None:
    """Refuse variables that name no certificates. Raises `ConfigError`."""
    if file := environ.get("SSL_CERT_FILE"):
        _certificates("the environment variable SSL_CERT_FILE", Path(file))
    folders = environ.get("SSL_CERT_DIR", "").split(os.pathsep)
    if any(folders) and not any(Path(folder).is_dir() for folder in folders if folder):
        raise ConfigError(f"the environment variable SSL_CERT_DIR: {os.pathsep.join(folders)} is no directory")


def _certificates(key: str, path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_BYTES) if path.is_file() else b""
    except OSError as error:
        raise ConfigError(f"{key}: {path} cannot be read: {error.strerror}") from None
    except ValueError:  # a NUL character
        raise ConfigError(f"{key}: {str(path)!r} is no name of a file") from None
    found = [block.decode() for block in _CERTIFICATE.findall(data)]
    if not found:
        raise ConfigError(f"{key}: {path} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")
    return found
