"""Makes the certificates of the configuration's tests anew (needs `cryptography`).

Nothing trusts them, and the keys protect nothing.
"""

import datetime
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

FOLDER = pathlib.Path(__file__).parent
LONG_AGO = datetime.datetime(2020, 1, 1)
FAR_AWAY = datetime.datetime(2120, 1, 1)


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(subject, key, issuer, issuer_key, until, extension, names=()):
    builder = x509.CertificateBuilder(name(issuer), name(subject), key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(LONG_AGO).not_valid_after(until)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
    return builder.add_extension(extension, critical=True).sign(issuer_key, hashes.SHA256())


def write(file, certificate):
    (FOLDER / file).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def write_key(file, key, encryption=serialization.NoEncryption()):
    form = serialization.PrivateFormat.PKCS8
    (FOLDER / file).write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))


ca_key, client_key, expired_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(4))
authority = x509.BasicConstraints(ca=True, path_length=None)
client = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
write("ca.pem", certificate("Weir test CA", ca_key, "Weir test CA", ca_key, FAR_AWAY, authority))
write("client.pem", certificate("weir", client_key, "Weir test CA", ca_key, FAR_AWAY, client))
write_key("client.key", client_key)
an_end = datetime.datetime(2021, 1, 1)
write("expired.pem", certificate("weir, of old", expired_key, "Weir test CA", ca_key, an_end, client))
write_key("expired.key", expired_key)
server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
names = ["weir.example.com", "*.weir.example.com"]
write("server.pem", certificate("weir, for clients", server_key, "Weir test CA", ca_key, FAR_AWAY, server, names))
write_key("server.key", server_key)
revoked = x509.CertificateRevocationListBuilder(name("Weir test CA"), LONG_AGO, FAR_AWAY)
revoked = revoked.add_extension(x509.CRLNumber(1), critical=False)
revoked = revoked.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
write("crl.pem", revoked.sign(ca_key, hashes.SHA256()))
write_key("encrypted.key", client_key, serialization.BestAvailableEncryption(b"secret"))
(FOLDER / "cut_off.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB\n")
(FOLDER / "malformed.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
