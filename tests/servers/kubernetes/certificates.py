"""The certificates and kubeconfigs of a test cluster, signed by an authority of its own."""

from __future__ import annotations

import base64
import ipaddress
import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class Authority:
    """A certificate authority that lives in a folder: ``ca.crt``, ``ca.key`` and what it signed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700)
        self._key = self._new_key("ca")
        self._name = _name("kubernetes-ca")
        usage = _usage(key_cert_sign=True, crl_sign=True)
        self._sign("ca", self._name, self._key, [(x509.BasicConstraints(True, None), True), (usage, True)])

    def key_pair(self, name: str) -> None:
        """A bare key, ``name.key`` and ``name.pub``, such as the one that signs service account tokens."""
        public = self._new_key(name).public_key()
        pem, info = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        (self.folder / f"{name}.pub").write_bytes(public.public_bytes(pem, info))

    def server(self, name: str, user: str, hosts: Sequence[str], *groups: str) -> None:
        """A server's certificate for these names and addresses."""
        alternatives = x509.SubjectAlternativeName([_host(host) for host in hosts])
        self._leaf(name, _name(user, *groups), ExtendedKeyUsageOID.SERVER_AUTH, [(alternatives, False)])

    def client(self, name: str, user: str, *groups: str) -> None:
        """A client's certificate: Kubernetes takes its common name for the user and its organizations for groups."""
        self._leaf(name, _name(user, *groups), ExtendedKeyUsageOID.CLIENT_AUTH, [])

    def kubeconfig(self, path: Path, server: str, user: str, *groups: str) -> None:
        """A kubeconfig that signs in as this user with a certificate."""
        self.client(path.stem, user, *groups)
        certificate, key = (self.folder / f"{path.stem}.{ending}" for ending in ("crt", "key"))
        write_kubeconfig(
            path,
            server,
            self.folder / "ca.crt",
            {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)},
        )

    def _leaf(self, name: str, subject: x509.Name, purpose: Any, extensions: list[tuple[Any, bool]]) -> None:
        usages = [(_usage(), True), (x509.ExtendedKeyUsage([purpose]), False)]
        self._sign(name, subject, self._new_key(name), [*usages, *extensions])

    def _new_key(self, name: str) -> ec.EllipticCurvePrivateKey:
        key = ec.generate_private_key(ec.SECP256R1())
        pem, plain = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        path = self.folder / f"{name}.key"
        path.touch(mode=0o600)
        path.write_bytes(key.private_bytes(serialization.Encoding.PEM, pem, plain))
        return key

    def _sign(
        self, name: str, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extensions: list[tuple[Any, bool]]
    ) -> None:
        now = datetime.now(timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=365))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        certificate = builder.sign(self._key, hashes.SHA256())
        (self.folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def write_kubeconfig(path: Path, server: str, ca: Path, user: dict[str, str], namespace: str = "default") -> None:
    """A kubeconfig with one cluster and one user. JSON is YAML."""
    cluster = {"server": server, "certificate-authority-data": _base64(ca)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": cluster}],
        "users": [{"name": "tests", "user": user}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests", "namespace": namespace}}],
        "current-context": "tests",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=1) + "\n")


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _name(user: str, *groups: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
