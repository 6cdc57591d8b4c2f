"""Every counterpart starts, answers as its vendor's does, and is gone afterwards."""

from __future__ import annotations

import ssl
from pathlib import Path

import dns.query
import dns.tsigkeyring
import dns.update
import httpx2
import pytest
from botocore.exceptions import ClientError

from regie_sandbox.servers.authority import Authority
from regie_sandbox.servers.haproxy import haproxy
from regie_sandbox.servers.knot import KEY_NAME, knot
from regie_sandbox.servers.nginx import nginx
from regie_sandbox.servers.pebble import challenges, pebble
from regie_sandbox.servers.process import answers

from .aws import aws

pytestmark = pytest.mark.slow

AUTHORITY = Authority()
SITE = AUTHORITY.issue(["localhost"])


def served(port: int) -> str:
    context = ssl.create_default_context(cadata=AUTHORITY.pem)
    with httpx2.Client(verify=context, trust_env=False) as client:
        return client.get(f"https://localhost:{port}/").text.strip()


def test_pebble_tells_its_directory_and_root(tmp_path: Path) -> None:
    with (
        challenges(tmp_path) as proofs,
        pebble(tmp_path, dns_port=proofs.dns_port, http_port=proofs.http_port) as authority,
    ):
        context = ssl.create_default_context(cadata=authority.trust)
        found = httpx2.get(authority.directory, verify=context, trust_env=False).json()
        assert {"newNonce", "newAccount", "newOrder"} <= set(found)
        assert "BEGIN CERTIFICATE" in authority.root()
        proofs.answer_http("token", "content")
        path = f"http://127.0.0.1:{proofs.http_port}/.well-known/acme-challenge/token"
        assert httpx2.get(path, trust_env=False).text == "content"
        port = httpx2.URL(authority.directory).port
    assert port is not None
    assert not answers(port)


def test_knot_takes_signed_updates_only(tmp_path: Path) -> None:
    with knot(tmp_path) as server:
        update = dns.update.UpdateMessage(server.zone)
        update.add("www", 60, "TXT", '"ours"')
        assert dns.query.tcp(update, "127.0.0.1", port=server.port, timeout=5).rcode() != 0
        update.use_tsig(dns.tsigkeyring.from_text({KEY_NAME: server.secret}), algorithm="hmac-sha256")
        assert dns.query.tcp(update, "127.0.0.1", port=server.port, timeout=5).rcode() == 0
        assert server.txt(f"www.{server.zone}") == {"ours"}


def test_nginx_serves_what_it_was_given(tmp_path: Path) -> None:
    with nginx(tmp_path, SITE) as server:
        assert served(server.port) == "served"


def test_haproxy_serves_what_it_was_given(tmp_path: Path) -> None:
    with haproxy(tmp_path, SITE) as server:
        assert served(server.port) == "served"
        assert server.socket.exists()
        assert server.master_socket.exists()


def test_aws_lets_nobody_do_more_than_allowed() -> None:
    with aws(["acm:ListCertificates"]) as cloud:
        cloud.client("acm").import_certificate(Certificate=SITE.chain.encode(), PrivateKey=SITE.key.encode())
        acm = cloud.client_of((cloud.access_key, cloud.secret_key), "acm")
        [found] = acm.list_certificates(Includes={"keyTypes": ["EC_prime256v1"]})["CertificateSummaryList"]
        with pytest.raises(ClientError):
            acm.describe_certificate(CertificateArn=found["CertificateArn"])
