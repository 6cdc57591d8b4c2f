"""moto as a server that imitates AWS, with its authentication armed: keys, signatures and policies count."""

from __future__ import annotations

import atexit
import json
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import httpx2
from botocore.config import Config

from regie_sandbox.servers.process import free_port, running

REGION = "eu-west-1"
ACCOUNT = "123456789012"


@dataclass(frozen=True)
class Aws:
    """A running moto.

    Attributes:
        access_key, secret_key: Of an account that may do what the test allowed, and nothing else.
    """

    endpoint: str
    access_key: str
    secret_key: str
    admin_keys: tuple[str, str]
    clients: dict[tuple[str, ...], Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        """A client that may do everything, to prepare the world and to look at it."""
        return self.client_of(self.admin_keys, service)

    def client_of(self, keys: Sequence[str], service: str) -> Any:
        """A client with these keys, closed with the server. It is made once: that takes longer than a call."""
        place = (*keys, service)
        if place not in self.clients:
            config = Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=10)
            session = boto3.Session(*keys, region_name=REGION)
            self.clients[place] = session.client(service, endpoint_url=self.endpoint, config=config)
        return self.clients[place]

    def who_may(self, allowed: Sequence[str]) -> tuple[str, str]:
        """The keys of a further account, which may do these actions and nothing else."""
        return _user(self.client("iam"), f"user-{secrets.token_hex(8)}", allowed)


@contextmanager
def aws(allowed: Sequence[str], *, pending: int = 0) -> Iterator[Aws]:
    """moto, empty and armed.

    Args:
        allowed: The actions that the account of the test may do, such as `acm:ImportCertificate`.
        pending: How often Route 53 says that a change is on its way before it is done.
    """
    free = _FREE.setdefault(pending, [])
    endpoint = free.pop() if free else _started(pending)
    _tell(endpoint, "reset")
    _tell(endpoint, "reset-auth", str(CALLS_TO_SET_UP))
    anybody = boto3.Session("anybody", "anything", region_name=REGION)
    iam = anybody.client("iam", endpoint_url=endpoint)
    admin = _user(iam, "admin", ["*"])
    ours = _user(iam, "regie", allowed)
    iam.close()
    # From now on keys count.
    _tell(endpoint, "reset-auth", "0")
    made = Aws(endpoint, *ours, admin_keys=admin)
    try:
        yield made
    finally:
        for each in made.clients.values():
            each.close()
        free.append(endpoint)


_FREE: dict[int, list[str]] = {}
"""Servers that nobody uses now, by their `pending`: starting one takes longer than what most tests do with it."""
CALLS_TO_SET_UP = 100
"""More than it takes to make the accounts of a test, which nobody's keys allow."""


def _tell(endpoint: str, what: str, content: str = "") -> None:
    """Tell moto's control API; the body must be plain text, see moto's documentation of IAM authentication."""
    answer = httpx2.post(
        f"{endpoint}/moto-api/{what}", content=content, headers={"Content-Type": "text/plain"}, trust_env=False
    )
    answer.raise_for_status()


def _started(pending: int) -> str:
    """A server that runs until this process ends; gives its address."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        try:
            return httpx2.get(f"{endpoint}/moto-api/", timeout=1, trust_env=False).is_success
        except httpx2.HTTPError:
            return False

    program = str(Path(__file__).with_name("moto_server.py"))
    arguments = (sys.executable, program, "-H", "127.0.0.1", "-p", str(port))
    environment = {"MOTO_ACM_VALIDATION_WAIT": "0", "ROUTE53_PENDING": str(pending)}
    folder = Path(tempfile.mkdtemp(prefix="regie-aws-"))
    running_until_the_end = running(arguments, log=folder / "moto.log", is_ready=is_ready, environment=environment)
    running_until_the_end.__enter__()
    atexit.register(shutil.rmtree, folder)
    atexit.register(running_until_the_end.__exit__, None, None, None)
    return endpoint


def _user(iam: Any, name: str, actions: Sequence[str]) -> tuple[str, str]:
    iam.create_user(UserName=name)
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": list(actions) or ["sts:GetCallerIdentity"], "Resource": "*"}],
    }
    iam.put_user_policy(UserName=name, PolicyName="may", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]
