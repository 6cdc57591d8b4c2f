"""What is wrong with what an endpoint presents. Pure: certificates and a moment in, findings out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from regie.core.capabilities.tls import Code, Endpoint, Finding, Inspection, Summary
from regie.core.server_name import is_for
from regie.kit.tls.certificates import Parsed, has_weak_key, is_weakly_signed
from regie.kit.tls.trust import Path

OLD_PROTOCOLS = frozenset({"SSLv2", "SSLv3", "TLSv1", "TLSv1.1"})
"""Deprecated by RFC 8996 and before it. An endpoint chooses one of them only if it has nothing newer."""


def found(code: Code, text: str, *, cause: str = "", certificate: int | None = None) -> Finding:
    """A finding with the severity of its code."""
    return Finding(code=code, severity=code.severity, cause=cause, certificate=certificate, text=text)


def judge(presented: Sequence[Parsed], path: Path, *, wanted: str, protocol: str, now: datetime) -> list[Finding]:
    """Everything that can be seen without asking anybody.

    Args:
        presented: The server's own certificate first.
        path: Where they lead.
        wanted: The name that the certificate must be for; no name is looked for when it is empty.
        protocol: What was spoken; empty for certificates of a file.
        now: Aware.
    """
    leaf = presented[0]
    all_found = [*_lifetime(leaf, 0, now), *_name(leaf, wanted), *_path(path, presented), *_purpose(leaf)]
    for position, each in enumerate(presented):
        all_found.extend(_strength(each, position))
    if protocol in OLD_PROTOCOLS:
        all_found.append(found(Code.OLD_PROTOCOL, f"Nothing newer than {protocol} is offered.", cause=protocol))
    return all_found


def judge_authorities(certificates: Sequence[Parsed], now: datetime) -> list[Finding]:
    """What is wrong with certificates that somebody keeps in order to trust them: each stands for itself."""
    return [
        finding
        for position, each in enumerate(certificates)
        for finding in (*_lifetime(each, position, now), *_strength(each, position))
    ]


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Findings in the order of the codes, which begin with the worst."""
    order = list(Code)
    return sorted(findings, key=lambda each: order.index(each.code))


def inspection(
    endpoint: Endpoint,
    findings: Iterable[Finding],
    presented: Sequence[Parsed] = (),
    *,
    address: str = "",
    protocol: str = "",
) -> Inspection:
    """What an endpoint showed and what is wrong with it, as one record."""
    told = {
        "host": endpoint.host,
        "port": endpoint.port,
        "server_name": endpoint.server_name or endpoint.host,
        "starttls": endpoint.starttls,
        "reached": bool(presented),
        "address": address,
        "protocol": protocol,
        "chain": [each.facts for each in presented],
        "findings": worst_first(findings),
    }
    if presented:
        told |= presented[0].facts.model_dump(include=_OF_THE_FIRST)
    return Inspection.model_validate(told)


_OF_THE_FIRST = {"serial", "names", "issuer", "authority_key", "not_before", "not_after", "key"}


def summed_up(inspected: Inspection) -> Summary:
    """An inspection in few words."""
    kept = {"host", "port", "server_name", "reached", *_OF_THE_FIRST} - {"names", "key"}
    severity = inspected.findings[0].severity if inspected.findings else "info"
    return Summary.model_validate(
        {**inspected.model_dump(include=kept), "findings": in_words(inspected.findings), "severity": severity}
    )


def in_words(findings: Iterable[Finding]) -> list[str]:
    """Findings as summaries carry them: each code once, with its cause behind a colon where it has one."""
    words = [f"{each.code}:{each.cause}" if each.cause else str(each.code) for each in findings]
    return list(dict.fromkeys(words))


def _lifetime(certificate: Parsed, position: int, now: datetime) -> list[Finding]:
    facts = certificate.facts
    if now > facts.not_after:
        return [found(Code.EXPIRED, f"Its lifetime ended at {_minute(facts.not_after)}.", certificate=position)]
    if now < facts.not_before:
        text = f"Its lifetime begins at {_minute(facts.not_before)}."
        return [found(Code.NOT_YET_VALID, text, certificate=position)]
    return []


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _name(leaf: Parsed, wanted: str) -> list[Finding]:
    if not wanted or is_for(leaf.facts.names, wanted):
        return []
    cause = "" if leaf.facts.names else "no_names"
    return [found(Code.NAME_MISMATCH, f"The certificate is not for {wanted}.", cause=cause, certificate=0)]


_PATH_WORDS = {
    Code.SELF_SIGNED: "The certificate signed itself and is not trusted.",
    Code.CHAIN_INCOMPLETE: "Its issuer is neither presented nor trusted.",
    Code.UNTRUSTED_ROOT: "The chain ends at an authority that is not trusted.",
    Code.EXPIRED: "The lifetime of an authority in the chain has ended.",
    Code.NOT_YET_VALID: "The lifetime of an authority in the chain has not begun.",
    Code.CHAIN_INVALID: "An authority in the chain may not sign this, or a signature is wrong.",
}


def _path(path: Path, presented: Sequence[Parsed]) -> list[Finding]:
    if path.fault is None:
        return []
    position = presented.index(path.culprit) if path.culprit in presented else None
    return [found(path.fault, _PATH_WORDS[path.fault], cause=path.cause, certificate=position)]


def _purpose(leaf: Parsed) -> list[Finding]:
    try:
        used_for = leaf.x509.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return []
    if {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(used_for):
        return []
    return [found(Code.WRONG_PURPOSE, "The certificate is not made for servers.", certificate=0)]


def _strength(certificate: Parsed, position: int) -> list[Finding]:
    key, signature, weak = certificate.facts.key, certificate.facts.signature, []
    if has_weak_key(certificate):
        weak.append(found(Code.WEAK_KEY, f"A key {key} is weak.", cause=key, certificate=position))
    # Nobody relies on the signature that a root made over itself.
    if is_weakly_signed(certificate) and not certificate.is_self_issued:
        text = f"A signature {signature} can be forged."
        weak.append(found(Code.WEAK_SIGNATURE, text, cause=signature, certificate=position))
    return weak
