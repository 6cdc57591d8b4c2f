"""The only reader of the environment. Every setting has a default that works on one machine."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

LARGEST_PORT = 65_535
Port = Annotated[int, Field(ge=0, le=LARGEST_PORT)]
"""A port on 127.0.0.1; 0 takes a free one."""


class Settings(BaseSettings):
    """What an installation may set, each as `REGIE_NAME` in the environment."""

    model_config = SettingsConfigDict(env_prefix="REGIE_", frozen=True, extra="ignore")

    home: Path = Field(default=Path(".regie"), description="Folder of this installation: database, keys, logs.")
    database_url: str = Field(
        default="", description="A PostgreSQL of your own (postgresql://...). Empty: Regie runs one itself."
    )
    workspace: Path | None = Field(
        default=None, description="The operator's repository of tenants and own domains. Empty: HOME/workspace."
    )
    port: Port = Field(default=8321, description="Port of the web process on 127.0.0.1; 0 takes a free one.")
    gateway_port: Port = Field(default=0, description="Port of the gateway on 127.0.0.1; 0 takes a free one.")
    gateway_url: str = Field(default="", description="Where the gateway answers. `regie up` fills it in.")
    notary_database_url: str = Field(
        default="",
        description="How the notary reaches the database, when it does so another way than the other processes. "
        "Empty: under the role that `regie up` makes for it.",
    )
    notary_every_s: float = Field(
        default=1.0, gt=0, le=3600, description="Seconds between two turns in which the notary takes leaves in."
    )
    witnesses: Path | None = Field(
        default=None,
        description="File that names the witnesses whom the notary asks and how many must sign (c2sp.org/tlog-policy).",
    )
    witness_every_s: float = Field(
        default=60.0, gt=0, le=86_400, description="Least seconds between two questions to witnesses."
    )
    secrets: Path | None = Field(
        default=None,
        description="File that says which backend keeps whose secrets. Empty: HOME/secrets.yaml; without it the vault.",
    )
    timestamp_url: str = Field(
        default="",
        pattern=r"^(https?://\S+)?$",
        description="Address of a timestamp authority (RFC 3161) that the notary asks. Empty: none.",
    )
    timestamp_ca: Path | None = Field(
        default=None,
        description="PEM file with the certificates that the authority's tokens must lead to. Needed with its address.",
    )
    timestamp_every_s: float = Field(
        default=3_600.0, gt=0, le=604_800, description="Least seconds between two timestamps."
    )
    deposit_bucket: str = Field(
        default="",
        description="S3 bucket with Object Lock where the notary deposits checkpoints that nobody can take back. "
        "Empty: none.",
    )
    deposit_region: str = Field(default="", description="Region of that bucket. Empty: as the credentials say.")
    deposit_endpoint: str = Field(
        default="", pattern=r"^(https?://\S+)?$", description="Address of an S3 that is not Amazon's. Empty: Amazon's."
    )
    deposit_credentials: Path | None = Field(
        default=None,
        description="File in the form of ~/.aws/credentials that only the notary opens. Empty: the machine's own role.",
    )
    deposit_keep_days: int = Field(
        default=2_557, ge=1, le=36_500, description="Days for which a deposit can be neither changed nor removed."
    )
    deposit_every_s: float = Field(default=300.0, gt=0, le=604_800, description="Least seconds between two deposits.")
    notary_metrics_port: Port | None = Field(
        default=None,
        description="Port on 127.0.0.1 where the notary tells its metrics. 0 takes a free one. Empty: it tells none.",
    )
    workers: int = Field(
        default=1, ge=1, le=64, description="How many worker processes `regie up` starts for each domain in use."
    )
    slots: int = Field(default=32, ge=1, le=1000, description="How many runs one worker moves at the same time.")
    public_url: str = Field(
        default="",
        pattern=r"^(https://[^/\s]+|http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?)?$",
        description="The address at which browsers reach the web process, such as https://regie.example.com. "
        "Signing in with an identity provider needs it.",
    )
    local_accounts: bool = Field(
        default=False,
        description="Whether accounts with a password kept here may sign in. The demo switches them on.",
    )
    oidc_issuer: str = Field(
        default="", description="The identity provider that people sign in with: its OpenID Connect issuer."
    )
    oidc_client_id: str = Field(default="", description="What the identity provider calls this installation.")
    oidc_client_secret: str = Field(
        default="",
        description="Reference of the client's secret in the vault, such as secret://installation/oidc-client. "
        "Empty: a client without a secret.",
    )
    oidc_scopes: str = Field(
        default="openid email profile", description="What the identity provider is asked for, separated by blanks."
    )
    oidc_address_claim: str = Field(
        default="email", description="The claim that holds a person's e-mail address, as outside systems know it."
    )
    oidc_groups_claim: str = Field(default="groups", description="The claim that holds the names of a person's groups.")
    oidc_reach: str = Field(
        default="",
        description="Networks in which the identity provider may be besides the public internet, separated by blanks, "
        "such as 10.20.0.0/16. One whose issuer names this machine is reached there.",
    )
    operator_group: str = Field(
        default="", description="The group at the identity provider whose members see and start everything."
    )
    password: SecretStr = Field(
        default=SecretStr(""), description="Password of the account named with --as; without it you are asked."
    )
    worker_metrics_port: Port | None = Field(
        default=None,
        description="Port on 127.0.0.1 where a worker tells its metrics; the second worker that `regie up` starts "
        "takes the next one. 0 takes a free one. Empty: workers tell none.",
    )
    traces_url: str = Field(
        default="",
        pattern=r"^(https?://\S+)?$",
        description="Where traces are sent by OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces. "
        "Empty: nothing is traced and nothing sent.",
    )
    crash_at: str = Field(
        default="", description="For torture tests: die at this named crash point (NAME or NAME:NTH)."
    )

    @property
    def keys(self) -> Path:
        """Folder of the installation's own keys and tokens, 0700."""
        return self.home / "keys"

    @property
    def workspace_folder(self) -> Path:
        """The workspace to load releases from."""
        return self.workspace or self.home / "workspace"

    @property
    def vault_file(self) -> Path:
        """The encrypted file of secrets."""
        return self.home / "vault.sealed"

    @property
    def secrets_file(self) -> Path:
        """Which backend keeps whose secrets, when there is such a file."""
        return self.secrets or self.home / "secrets.yaml"

    @property
    def state_file(self) -> Path:
        """Where `regie up` says what runs and where."""
        return self.home / "up.json"

    def worker_token_file(self, domain: str) -> Path:
        """The token a worker of that domain shows to the gateway."""
        return self.keys / f"worker-{domain}.token"

    @property
    def web_token_file(self) -> Path:
        """The token the web process shows to the gateway, for deliveries and signing in.

        `regie doctor` tries out connections with it; it is good for nothing that a step asks.
        """
        return self.keys / "web.token"

    @property
    def metrics_token_file(self) -> Path:
        """The token with which Prometheus reads metrics, and nothing else."""
        return self.keys / "metrics.token"

    @property
    def sealing_key_file(self) -> Path:
        """The key that state and payloads in the database are sealed with."""
        return self.keys / "sealing.json"

    @property
    def signing_key_file(self) -> Path:
        """The keys that logs are signed with, which only the notary opens; in a folder of its own."""
        return self.home / "notary" / "signing.json"

    def database_token_file(self, process: str, domain: str = "") -> Path:
        """The password of a process's login to the database; of a worker also its domain."""
        return self.keys / f"database-{'-'.join(filter(None, (process, domain)))}.token"

    @property
    def sign_ins_file(self) -> Path:
        """Passwords of accounts that may sign in from this machine without being asked, by address. 0600."""
        return self.home / "sign-ins.json"

    @property
    def operator_token_file(self) -> Path:
        """The token with which the command line on this machine speaks to the web process."""
        return self.keys / "operator.token"


def read_or_make_token(file: Path) -> str:
    """The token in a 0600 file, made on first use. 43 characters, 256 bits."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = file.with_suffix(f".{secrets.token_hex(4)}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(32))
        # Of two processes that make it at once the first wins: a link never replaces.
        try:
            file.hardlink_to(draft)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return file.read_text().strip()


def read_private(file: Path) -> str:
    """What a file says that only its owner may read; nothing when there is none, or others may read it too."""
    try:
        return "" if file.stat().st_mode & 0o077 else file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


def forget_settings() -> None:
    """Take every `REGIE_` variable from this process and those that it starts.

    For a world of its own beside a real installation: nothing that is set for that one may be asked, told or opened.
    """
    # Settings are read whatever the case of their names.
    for name in [each for each in os.environ if each.upper().startswith("REGIE_")]:  # noqa: TID251  read here alone
        del os.environ[name]  # noqa: TID251  likewise


_SECRET = "REGIE_SECRET__"  # noqa: S105  the beginning of names
"""How variables begin that hold secrets, for the gateway alone."""


def secret_variable(name: str) -> str:
    """The value of a secret in this process's environment; empty when there is none.

    Args:
        name: Of the variable, behind `REGIE_SECRET__`.
    """
    return os.environ.get(f"{_SECRET}{name}", "")  # noqa: TID251  the environment is read in this module alone


def gateway_environment(**values: str) -> dict[str, str]:
    """This process's environment with some `REGIE_` settings replaced: what a gateway is started with."""
    # The environment is read in this module and nowhere else.
    return {**os.environ, **{f"REGIE_{name.upper()}": value for name, value in values.items()}}  # noqa: TID251


def child_environment(**values: str) -> dict[str, str]:
    """The same for a process of ours that is no gateway: without the variables that hold secrets."""
    inherited = gateway_environment(**values).items()
    return {name: value for name, value in inherited if not name.startswith(_SECRET)}
