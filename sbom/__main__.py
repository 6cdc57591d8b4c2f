"""`python -m sbom`: writes the bill of materials of what `requirements.lock` and the pages' lock install.

It says nothing of when or where it was made, so the same locks give the same bytes.
"""

from __future__ import annotations

import base64
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from sbom.licences import licence_of

ROOT = Path(__file__).parent.parent
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)((?: ;[^\\\n]*)?(?: \\\n +--hash=sha256:[0-9a-f]{64})+)", re.MULTILINE)
DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
FRONT_END = ROOT / "src/regie/web/pages/front_end"
SCRIPT_LICENCES = {"htmx-ext-sse": "0BSD", "htmx.org": "0BSD"}
"""Of the scripts of the pages, as their licence files have it."""


def bill() -> str:
    """The bill, as JSON."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    licences = LicenseFactory()
    bom = Bom(components=[*_packages(licences), *_scripts(licences)])
    bom.metadata.component = Component(
        name=project["name"],
        version=project["version"],
        type=ComponentType.APPLICATION,
        bom_ref=project["name"],
        licenses=[licences.make_from_string(project["license"])],
    )
    bom.register_dependency(bom.metadata.component, bom.components)
    said = json.loads(JsonV1Dot6(bom).output_as_string())
    # When it was made, and a number for this making of it.
    del said["metadata"]["timestamp"], said["serialNumber"]
    return json.dumps(said, indent=2, sort_keys=True) + "\n"


def _packages(licences: LicenseFactory) -> Iterator[Component]:
    for name, version, rest in PINNED.findall((ROOT / "requirements.lock").read_text(encoding="utf-8")):
        digests = [HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in DIGEST.findall(rest)]
        yield _component(licences, PackageURL("pypi", None, name, version), licence_of(name), digests)


def _scripts(licences: LicenseFactory) -> Iterator[Component]:
    lock = json.loads((FRONT_END / "package-lock.json").read_text(encoding="utf-8"))
    for place, each in sorted(lock["packages"].items()):
        if name := place.rpartition("node_modules/")[2]:
            digest = base64.b64decode(each["integrity"].removeprefix("sha512-")).hex()
            digests = [HashType(alg=HashAlgorithm.SHA_512, content=digest)]
            purl = PackageURL("npm", None, name, each["version"])
            yield _component(licences, purl, SCRIPT_LICENCES[name], digests)


def _component(licences: LicenseFactory, purl: PackageURL, licence: str, digests: list[HashType]) -> Component:
    """A package; the digests are those of the files, any of which may be installed."""
    files = ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(str(purl)), hashes=digests)
    return Component(
        name=purl.name,
        version=purl.version,
        purl=purl,
        bom_ref=str(purl),
        licenses=[licences.make_from_string(licence)],
        external_references=[files],
    )


if __name__ == "__main__":
    sys.stdout.write(bill())
