from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
import redis.asyncio

from flagcache.errors import StoreError
from flagcache.stores.redis.asyncio_address import resolve_asyncio
from tests.stores.shared_definitions import clients_share
from tests.support.redis_links import READ, WRITE, Source, execute, link_to, make_client
from tests.support.servers import RedisServer, find_binary, free_port


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate for 127.0.0.1 that is its own authority."""

    certificate: Path
    key: Path


def make_certificate(directory: Path, name: str, address: str = "127.0.0.1") -> Certificate:
    """Make a certificate for 127.0.0.1, or another address, signed by itself."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    alternatives = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    builder = x509.CertificateBuilder().subject_name(names).issuer_name(names).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).add_extension(alternatives, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(
        now + datetime.timedelta(days=1)
    )
    made = Certificate(directory / f"{name}.crt", directory / f"{name}.key")
    made.certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    made.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return made


@dataclass(frozen=True, slots=True)
class TlsServer:
    """A server that wants its clients' certificates too."""

    server: RedisServer
    port: int
    own: Certificate
    stranger: Certificate


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[TlsServer]:
    """Redis 7.0 with TLS, and a certificate that it does not know."""
    binary, port = find_binary("redis-7.0"), free_port()
    own, stranger = make_certificate(tmp_path, "own"), make_certificate(tmp_path, "stranger")
    settings = {"tls-port": port, "tls-cert-file": own.certificate, "tls-key-file": own.key}
    settings |= {"tls-ca-cert-file": own.certificate, "tls-auth-clients": "yes"}
    args = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
    with RedisServer(binary, args=args) as server:
        yield TlsServer(server, port, own, stranger)


@pytest.mark.parametrize("how", ["url", "client", "asyncio client"])
def test_tls_settings_are_the_clients(tls: TlsServer, how: str) -> None:
    """Authority, certificate and key of a client, or of a URL's options, serve the link: runs, messages, a wake-up."""
    files = {"ssl_ca_certs": tls.own.certificate, "ssl_certfile": tls.own.certificate, "ssl_keyfile": tls.own.key}
    options = {name: str(path) for name, path in files.items()}
    url = f"rediss://127.0.0.1:{tls.port}/1?" + "&".join(f"{name}={path}" for name, path in options.items())
    sources: dict[str, Callable[[], Source]] = {
        "url": lambda: url,
        "client": lambda: make_client(host="127.0.0.1", port=tls.port, db=1, ssl=True, **options),
        "asyncio client": lambda: resolve_asyncio(redis.asyncio.Redis.from_url(url)),
    }
    with link_to(sources[how]()) as link:
        assert link.address == f"rediss://127.0.0.1:{tls.port}/1"
        assert link.run(WRITE, ["key"], ["x" * 100_000]) == b"OK"
        assert link.run(READ, ["key"], []) == b"x" * 100_000
        channel = link.subscribe("news")
        assert channel.get(0.05) is None
        execute(tls.server, "PUBLISH", "news", b"\xff" * 50_000)
        assert channel.get(5) == b"\xff" * 50_000
        channel.close()
        with pytest.raises(StoreError, match="closed"):
            channel.get(5)


def test_tls_server_of_a_stranger_is_refused(tls: TlsServer) -> None:
    """A server whose certificate the client's authority did not sign is not talked to."""
    client = make_client(host="127.0.0.1", port=tls.port, ssl=True, ssl_ca_certs=str(tls.stranger.certificate))
    refused = pytest.raises(StoreError, match=r"(?i)certificate verify failed")
    with closing(client), link_to(client) as link, refused:
        link.run(WRITE, ["key"], ["x"])


def test_a_fleet_shares_over_tls_with_a_client_certificate(tls: TlsServer, namespace: str) -> None:
    """One fetch serves three attached clients whom the server knows by certificate, and a change is pushed to all."""
    files = {"ssl_ca_certs": tls.own.certificate, "ssl_certfile": tls.own.certificate, "ssl_keyfile": tls.own.key}
    options = "&".join(f"{name}={path}" for name, path in files.items())
    clients_share(f"rediss://127.0.0.1:{tls.port}/0?{options}", namespace)


@pytest.fixture
def misnamed(tmp_path: Path) -> Iterator[TlsServer]:
    """Redis 7.0 on 127.0.0.1 whose certificate, of an authority that clients trust, is for another address."""
    binary, port, own = find_binary("redis-7.0"), free_port(), make_certificate(tmp_path, "own", "127.0.0.2")
    settings = {"tls-port": port, "tls-cert-file": own.certificate, "tls-key-file": own.key}
    settings |= {"tls-ca-cert-file": own.certificate, "tls-auth-clients": "no"}
    args = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
    with RedisServer(binary, args=args) as server:
        yield TlsServer(server, port, own, own)


def tls_sources(server: TlsServer, **said: str | bool) -> dict[str, Callable[[], Source]]:
    """Each way to name a server with TLS whose authority is trusted; `said` are further options."""
    options: dict[str, str | bool] = {"ssl_ca_certs": str(server.own.certificate), **said}
    where = f"127.0.0.1:{server.port}"
    query = "&".join(f"{name}={value}" for name, value in options.items())
    make_asyncio = cast("Callable[..., redis.asyncio.Redis]", redis.asyncio.Redis)
    return {
        "url": lambda: f"rediss://{where}/0?{query}",
        "cluster url": lambda: f"rediss+cluster://{where}/?{query}",
        "sentinel url": lambda: f"rediss+sentinel://{where}/mymaster/0?{query}",
        "client": lambda: make_client(host="127.0.0.1", port=server.port, ssl=True, **options),
        "client of a url": lambda: redis.Redis.from_url(f"rediss://{where}/0?{query}"),
        "asyncio client": lambda: resolve_asyncio(
            make_asyncio(host="127.0.0.1", port=server.port, ssl=True, **options)
        ),
        "asyncio client of a url": lambda: resolve_asyncio(redis.asyncio.Redis.from_url(f"rediss://{where}/0?{query}")),
    }


@pytest.mark.parametrize(
    "how",
    ["url", "cluster url", "sentinel url", "client", "client of a url", "asyncio client", "asyncio client of a url"],
)
def test_a_certificate_for_another_host_is_refused(misnamed: TlsServer, how: str) -> None:
    """Whatever the version of redis-py, the name in a certificate is checked, of each server that is asked."""
    with (
        link_to(tls_sources(misnamed)[how]()) as link,
        pytest.raises(StoreError, match=r"(?i)mismatch|No master found"),
    ):
        link.run(WRITE, ["key"], ["x"])
    assert execute(misnamed.server, "GET", "key") is None


@pytest.mark.parametrize("how", ["url", "client of a url", "asyncio client of a url"])
@pytest.mark.parametrize("said", [{"ssl_check_hostname": "False"}, {"ssl_cert_reqs": "none"}], ids=str)
def test_what_the_user_said_of_the_name_holds(misnamed: TlsServer, how: str, said: dict[str, str]) -> None:
    """If a URL switches off the check of the name, or of name and certificate, the connection is made."""
    if "ssl_cert_reqs" in said:  # redis-py 6.0 itself refuses only "none"
        said = {**said, "ssl_check_hostname": "False"}
    with link_to(tls_sources(misnamed, **said)[how]()) as link:
        assert link.run(WRITE, ["key"], ["x"]) == b"OK"


def test_a_client_without_a_check_of_certificates_goes_on(misnamed: TlsServer) -> None:
    """A client that checks neither certificate nor name is used as it is."""
    client = make_client(host="127.0.0.1", port=misnamed.port, ssl=True, ssl_cert_reqs="none", ssl_check_hostname=False)
    with closing(client), link_to(client) as link:
        assert link.run(WRITE, ["key"], ["x"]) == b"OK"
