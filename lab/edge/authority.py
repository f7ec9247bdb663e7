"""The lab's certificate authority: what the resolvers' certificates are signed with, and hosts are told to trust."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lab.storage.place import write_private

YEARS = datetime.timedelta(days=3650)


def ensure(folder: Path, address: str) -> tuple[Path, Path, Path]:
    """The authority's certificate, and certificate and key for an IP address; made once, kept in the folder."""
    authority, certificate, key = folder / "ca.pem", folder / f"{address}.pem", folder / f"{address}.key"
    folder.mkdir(parents=True, exist_ok=True)
    if not all(path.exists() for path in (authority, certificate, key)):
        for old in folder.glob("[0-9]*.pem"):  # signed by the authority that is replaced now
            old.unlink()
        _make(authority, certificate, key, address)
    return authority, certificate, key


def _make(authority: Path, certificate: Path, key: Path, address: str) -> None:
    ca_key, own_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Understudy lab")])
    ca = _builder(ca_name, ca_name, ca_key.public_key()).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    own = _builder(x509.Name([]), ca_name, own_key.public_key()).add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=True
    )
    identity = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = ca.add_extension(identity, critical=False).add_extension(_signs(), critical=True)
    known_by = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identity)
    own = own.add_extension(known_by, critical=False)
    write_private(key, _private(own_key))
    write_private(certificate, _pem(own.sign(ca_key, hashes.SHA256())))
    write_private(authority, _pem(ca.sign(ca_key, hashes.SHA256())))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=400))  # lab clocks may be set back
        .not_valid_after(now + YEARS)
    )


def _signs() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
