"""What ACM tells of its own renewals, which nobody can bring about in a test, in our words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from regie.kit.acm import told
from tests.connectors.conftest import RecordedKeys

BORN = datetime(2026, 1, 1, tzinfo=UTC)


def detail(**more: Any) -> dict[str, Any]:
    """A certificate that Amazon has issued (API reference, CertificateDetail)."""
    return {
        "CertificateArn": "arn:aws:acm:eu-west-1:123456789012:certificate/1",
        "DomainName": "shop.example.test",
        "Status": "ISSUED",
        "Type": "AMAZON_ISSUED",
        "Serial": "0a:1b",
        "NotBefore": BORN,
        "NotAfter": BORN.replace(year=2027),
        "KeyAlgorithm": "RSA-2048",
        "RenewalEligibility": "ELIGIBLE",
        "InUseBy": ["arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/web/1"],
        **more,
    }


@pytest.mark.parametrize(
    ("status", "reason", "renewal", "findings"),
    [
        ("PENDING_AUTO_RENEWAL", "", "pending", []),
        ("PENDING_VALIDATION", "", "waits_for_proof", []),
        ("SUCCESS", "", "done", []),
        ("FAILED", "CAA_ERROR", "failed", ["renewal_failed:caa_error"]),
        ("FAILED", "", "failed", ["renewal_failed"]),
        ("SOMETHING_NEW", "", "", []),
    ],
)
async def test_how_its_own_renewal_stands(status: str, reason: str, renewal: str, findings: list[str]) -> None:
    summary = {"RenewalStatus": status, **({"RenewalStatusReason": reason} if reason else {})}
    found = await told(RecordedKeys(), detail(RenewalSummary=summary))
    assert (found.renewed_by, found.renewal, found.findings) == ("source", renewal, findings)


@pytest.mark.parametrize("status", ["EXPIRED", "REVOKED"])
async def test_what_is_over_is_a_finding(status: str) -> None:
    found = await told(RecordedKeys(), detail(Status=status, InUseBy=[]))
    assert (found.state, found.findings, found.is_used) == (status.lower(), [status.lower()], False)
