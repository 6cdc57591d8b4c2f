"""OpenSSH's server, with SFTP, for whoever runs the tests (Debian: openssh-server)."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from regie_sandbox.servers.process import answers, free_port, require, running


@dataclass(frozen=True)
class Sshd:
    """A running server.

    Attributes:
        host_key: What it shows, as one line.
        private_key: Of somebody who may sign in as `user`.
    """

    port: int
    user: str
    host_key: str
    private_key: str

    @property
    def address(self) -> str:
        """`HOST:PORT`."""
        return f"127.0.0.1:{self.port}"


def new_key() -> tuple[str, str]:
    """A private key in OpenSSH's form, and its public key as one line."""
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), public.decode()


@contextmanager
def sshd(folder: Path) -> Iterator[Sshd]:
    """A server that lets one key in."""
    program = require("sshd", "openssh-server")
    Path("/run/sshd").mkdir(exist_ok=True)  # Debian's server wants it for its unprivileged part
    port = free_port()
    (host_private, host_key), (private_key, public) = new_key(), new_key()
    host_file, authorised, config = folder / "host_key", folder / "authorised", folder / "sshd_config"
    host_file.write_text(host_private)
    host_file.chmod(0o600)
    authorised.write_text(public + "\n")
    config.write_text(
        f"""
ListenAddress 127.0.0.1:{port}
HostKey {host_file}
AuthorizedKeysFile {authorised}
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
"""
    )
    with running((program, "-D", "-e", "-f", str(config)), log=folder / "sshd.log", is_ready=lambda: answers(port)):
        yield Sshd(port, getpass.getuser(), host_key, private_key)
