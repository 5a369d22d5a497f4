"""Certificates for a stand-in over https."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flagcache.errors import MissingExtraError

__all__ = ["Certificate", "make_certificate"]


@dataclass(frozen=True, slots=True)
class Certificate:
    """The files of a server's certificate.

    Attributes:
        certfile: The server's certificate, PEM.
        keyfile: Its private key, PEM.
        ca_file: The certificate of its authority, which clients must trust, PEM.
    """

    certfile: str
    keyfile: str
    ca_file: str


def make_certificate(directory: Path) -> Certificate:
    """Create a certificate for 127.0.0.1 and localhost, and the authority that signs it, valid for a day.

    Args:
        directory: The directory of the three files; it must exist.

    Raises:
        MissingExtraError: The `cryptography` package is not installed.
    """
    try:
        from ._x509 import write_files  # noqa: PLC0415 - needs an extra
    except ImportError as exc:
        raise MissingExtraError('certificates need cryptography: pip install "flagcache[testing]"') from exc
    certfile, keyfile, ca_file = (directory / name for name in ("server.pem", "server.key", "ca.pem"))
    write_files(certfile, keyfile, ca_file)
    return Certificate(str(certfile), str(keyfile), str(ca_file))
