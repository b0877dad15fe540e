"""Whose certificates a run trusts beside the machine's own, and which it shows: files that the configuration names.

`SSL_CERT_FILE` and `SSL_CERT_DIR` stand for the machine's own; each client reads them by itself. Here it is only looked
whether they can be what they are meant for, as a run that trusts nobody would fail row by row.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rowmill.core.errors import ConfigError

if TYPE_CHECKING:
    import ssl

_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----.+?-----END (?:[A-Z]+ )?PRIVATE KEY-----", re.DOTALL)
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
_LARGEST_BYTES = 16 << 20  # of a file with certificates: the largest bundles have half a megabyte


def trusted(key: str, name: str) -> str:
    """Return the certificates of a file as PEM, without what stands between them.

    key: which names the file, for messages. Raises `ConfigError` where there are none, or not all of them can be read.
    """
    import ssl  # only here: most runs name no file

    pem = "\n".join(_blocks(_CERTIFICATE, "certificate", key, Path(name).expanduser())) + "\n"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except ssl.SSLError as error:
        raise ConfigError(f"{key}: {name} holds a certificate that cannot be read ({error.reason})") from None
    return pem


def identity(whose: str, cert_file: str, key_file: str | None) -> str:
    """Return the certificate and the key that a client shows, as PEM.

    whose: the provider, for messages. Raises `ConfigError` where there are none, or they do not belong together.
    """
    import ssl  # only here: most runs name no file

    holder = "key_file" if key_file else "cert_file"
    key = _blocks(_KEY, "key", f"{whose}: provider.{holder}", Path(key_file or cert_file).expanduser())[:1]
    chain = _blocks(_CERTIFICATE, "certificate", f"{whose}: provider.cert_file", Path(cert_file).expanduser())
    pem = "\n".join([*key, *chain]) + "\n"
    try:
        show(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), pem)
    except ssl.SSLError as error:
        why = error.reason or "the key has a password, or is none"
        raise ConfigError(f"{whose}: provider.cert_file: {cert_file} and its key cannot be used ({why})") from None
    return pem


def show(context: "ssl.SSLContext", pem: str) -> None:
    """Let a context show a certificate and its key. Raises `ssl.SSLError`."""
    # OpenSSL takes them from a file alone: this one is in memory, and nobody else's.
    with os.fdopen(os.memfd_create("identity"), "wb") as file:
        file.write(pem.encode())
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password="")  # nobody is asked for one


def check_environment(environ: Mapping[str, str]) -> None:
    """Refuse variables that name no certificates. Raises `ConfigError`."""
    if file := environ.get("SSL_CERT_FILE"):
        _blocks(_CERTIFICATE, "certificate", "the environment variable SSL_CERT_FILE", Path(file))
    folders = environ.get("SSL_CERT_DIR", "").split(os.pathsep)
    if any(folders) and not any(Path(folder).is_dir() for folder in folders if folder):
        raise ConfigError(f"the environment variable SSL_CERT_DIR: {os.pathsep.join(folders)} is no directory")


def _blocks(kind: re.Pattern[bytes], what: str, key: str, path: Path) -> list[str]:
    """Return the blocks of PEM of a kind in a file, of which there must be one."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_BYTES) if path.is_file() else b""
    except OSError as error:
        raise ConfigError(f"{key}: {path} cannot be read: {error.strerror}") from None
    except ValueError:  # a NUL character
        raise ConfigError(f"{key}: {str(path)!r} is no name of a file") from None
    found = [block.decode() for block in kind.findall(data)]
    if not found:
        shown = "PRIVATE KEY" if what == "key" else "CERTIFICATE"
        raise ConfigError(f"{key}: {path} holds no {what} in PEM (-----BEGIN {shown}-----)")
    return found
