"""Ways to AWS for the tests of its connectors, and what they find there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509

from regie.core.capabilities.certificate import KeptCertificate
from regie.core.errors import NotFound
from regie.kit.access import Calls
from regie.kit.aws import Aws
from regie.kit.keys import Material, Part, Resolve
from regie_sandbox.servers.authority import Authority, Issued
from tests.counterparts.aws import Aws as Cloud

from .conftest import RecordedKeys

AUTHORITY = Authority()


class Asked(Aws):
    """Access that remembers what was asked.

    Attributes:
        operations: Names of the operations, in order; shared with what is derived by `needing`.
        instead: What answers in place of AWS, once, by operation.
    """

    operations: list[str]
    instead: dict[str, Any]

    def needing(self, permissions: tuple[str, ...]) -> Asked:
        """See `Aws`."""
        made = Asked(self._client_for, self._calls, self._resolve, permissions)
        made.operations, made.instead = self.operations, self.instead
        return made

    async def call(self, service: str, operation: str, **arguments: Any) -> Any:
        """See `Aws`."""
        self.operations.append(operation)
        if before := self.instead.pop(operation, None):
            before()
        return await super().call(service, operation, **arguments)


async def _nothing(_: Material) -> bytes:
    raise AssertionError


def access(cloud: Cloud, *, resolve: Resolve = _nothing, keys: Sequence[str] = ()) -> Asked:
    """A connection's way; with the test's account when no keys are given."""
    used = keys or (cloud.access_key, cloud.secret_key)

    async def client_for(service: str, permissions: tuple[str, ...] = (), refused: Any = None) -> Any:
        return cloud.client_of(used, service)

    made = Asked(client_for, Calls("AWS"), resolve)
    made.operations, made.instead = [], {}
    return made


@dataclass
class Shelf(RecordedKeys):
    """Kept certificates of a test."""

    issued: dict[str, Issued] = field(default_factory=dict)

    def issue(self, *names: str) -> KeptCertificate:
        reference = f"secret://certificates/certificate-{len(self.issued)}"
        self.issued[reference] = AUTHORITY.issue(names)
        return self._kept(reference)

    def _kept(self, reference: str) -> KeptCertificate:
        if reference not in self.issued:
            raise NotFound(f"no certificate is kept as {reference}")
        own = x509.load_pem_x509_certificate(self.issued[reference].chain.encode())
        names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return KeptCertificate(
            certificate=reference,
            serial=f"{own.serial_number:x}",
            names=sorted(names.get_values_for_type(x509.DNSName)),
            issuer="Authority of a test",
            not_before=own.not_valid_before_utc,
            not_after=own.not_valid_after_utc,
            key="ec-p256",
        )

    async def get(self, certificate: str) -> KeptCertificate:
        return self._kept(certificate)

    async def with_serial(self, serial: str) -> KeptCertificate | None:
        return next((kept for each in self.issued if (kept := self._kept(each)).serial == serial), None)

    async def resolve(self, material: Material) -> bytes:
        parts = {
            Part.CERTIFICATE: self.issued[material.certificate].chain,
            Part.INTERMEDIATES: "",
            Part.CHAIN: self.issued[material.certificate].chain,
            Part.PRIVATE_KEY: self.issued[material.certificate].key,
        }
        return parts[material.part].encode()


def theirs(cloud: Cloud, *names: str) -> str:
    issued = AUTHORITY.issue(names)
    made = cloud.client("acm").import_certificate(Certificate=issued.chain.encode(), PrivateKey=issued.key.encode())
    return str(made["CertificateArn"])


def listen(cloud: Cloud, arn: str) -> str:
    ec2, elb = cloud.client("ec2"), cloud.client("elbv2")
    subnets = [each["SubnetId"] for each in ec2.describe_subnets()["Subnets"]][:2]
    balancer = elb.create_load_balancer(Name="web", Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
    made = elb.create_listener(
        LoadBalancerArn=balancer,
        Protocol="HTTPS",
        Port=443,
        Certificates=[{"CertificateArn": arn}],
        DefaultActions=[{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}],
    )
    return str(made["Listeners"][0]["ListenerArn"])
