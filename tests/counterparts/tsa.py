"""A timestamp authority: `openssl ts` behind a small HTTP server, with a certificate authority of its own."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Without `certs`: with it the order inside the token is not that of strict DER.
CONFIG = """
[ tsa ]
serial = {folder}/serial
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
signer_digest = sha256
ess_cert_id_alg = sha256
accuracy = secs:1
"""


@dataclass
class Tsa:
    """A running authority.

    Attributes:
        ca: File of the certificate that its tokens lead to.
        status: What it answers, for a while, instead of tokens; 0 for tokens.
        over: What it makes tokens over instead of what it is asked about.
    """

    url: str
    ca: Path
    status: int = 0
    over: bytes | None = None
    asked: int = 0


@contextmanager
def timestamp_authority(folder: Path) -> Iterator[Tsa]:
    """One that answers until the end of the block."""
    _make_keys(folder)
    (folder / "openssl.cnf").write_text(CONFIG.format(folder=folder))
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"]))
            tsa.asked += 1
            if tsa.status:
                self.send_response(tsa.status)
                self.end_headers()
                return
            with lock:
                answer = _reply(folder, _query(folder, tsa.over) if tsa.over is not None else asked)
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        tsa = Tsa(f"http://127.0.0.1:{server.server_address[1]}/tsa", folder / "ca.pem")
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        try:
            yield tsa
        finally:
            server.shutdown()
            serving.join()


def _reply(folder: Path, query: bytes) -> bytes:
    (folder / "query").write_bytes(query)
    command = ["openssl", "ts", "-reply", "-queryfile", "query", "-config", "openssl.cnf", "-section", "tsa"]
    command += ["-signer", "tsa.pem", "-inkey", "tsa.key", "-out", "reply"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "reply").read_bytes()


def _query(folder: Path, data: bytes) -> bytes:
    (folder / "data").write_bytes(data)
    command = ["openssl", "ts", "-query", "-data", "data", "-sha256", "-cert", "-out", "other-query"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "other-query").read_bytes()


def _make_keys(folder: Path) -> None:
    """A certificate authority, and a certificate of it that may sign timestamps and nothing else (RFC 3161, 2.3)."""
    now = datetime.now(UTC)  # noqa: TID251  certificates are checked against this machine's clock
    root, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Example Time Root")])

    def certificate(name: str, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(root_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )

    ca = (
        certificate("Example Time Root", root.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(root, hashes.SHA256())
    )
    signer = (
        certificate("Example Time", key.public_key())
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
        .sign(root, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
    (folder / "tsa.pem").write_bytes(signer.public_bytes(Encoding.PEM))
    (folder / "tsa.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
