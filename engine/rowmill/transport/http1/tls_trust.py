"""Whom a connection trusts, and how it speaks TLS: one context of OpenSSL for all connections to a server."""

import functools
import os
import re
import ssl
from contextlib import suppress
from pathlib import Path

from rowmill.core.config.trust import show

# Where distributions keep the certificates that this machine trusts, which OpenSSL does not know where it was not built
# for this one: as files that are found by the hash of a name, of which only those that are needed are read, or as one
# file, which takes 75 ms.
_FOLDERS = ("/etc/ssl/certs", "/etc/pki/tls/certs")
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]")


@functools.cache
def context(ca: str, identity: str = "") -> ssl.SSLContext:
    """Return the one context that trusts whom this machine trusts, and the authorities of `ca`, in PEM.

    identity: the certificate and key that it shows to a server which wants to see some, in PEM.

    `SSL_CERT_FILE` and `SSL_CERT_DIR` stand for the machine's own; of a directory every file counts, whatever its name.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    # Whom somebody names is trusted, be it an authority, one below it, or the server's own certificate.
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    made.set_alpn_protocols(["http/1.1"])  # servers that prefer HTTP/2 speak this one, too
    _trust_machine(made)
    if ca:
        made.load_verify_locations(cadata=ca)
    if identity:
        show(made, identity)
    return made


def _trust_machine(made: ssl.SSLContext) -> None:
    file, folders = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or folders:
        places = [Path(file)] if file else []
        for folder in filter(None, (folders or "").split(os.pathsep)):
            with suppress(OSError):
                places += Path(folder).iterdir()
        for path in places:
            with suppress(OSError):  # no certificate, or not for us to read
                made.load_verify_locations(path)
        return
    own = ssl.get_default_verify_paths()
    for folder in filter(None, (own.capath, *_FOLDERS)):
        if _is_hashed(Path(folder)):
            made.load_verify_locations(capath=folder)
            return
    for bundle in filter(None, (own.cafile, *_BUNDLES)):
        with suppress(OSError):
            made.load_verify_locations(bundle)
            return


def _is_hashed(folder: Path) -> bool:
    try:
        return any(_HASHED.fullmatch(path.name) for path in folder.iterdir())
    except OSError:
        return False
