"""The policies of a release, ready to be asked. Whatever goes wrong while they are asked is a no.

Cedar (https://docs.cedarpolicy.com) alone would not do: it goes on without a `forbid` that cannot be evaluated. So each
question is checked against the schema, and only an answer without any error is a yes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from string import Formatter
from typing import NamedTuple

import cedarpy
from pydantic import JsonValue

from regie.core import canonical
from regie.core.errors import DefinitionError, Denied, Fault
from regie.core.release import Release
from regie.policy.request import Entity, Ref, Request, Value
from regie.policy.statements import statements

SHIPPED = Path(__file__).parent / "shipped"
"""Where Regie's own policies are."""
ALWAYS = "always.cedar"
"""The file that no workspace replaces."""
WORDS = frozenset({"who", "action", "tenant", "domain", "workflow", "place", "undone", "capability", "target", "asked"})
"""What `@because` and `@hint` may name in braces."""
ANSWERS = 1024
"""How many answers are kept with a set of policies."""
RELEASES = 8
"""How many sets of policies a process keeps ready."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy, without what it says.

    Attributes:
        id: Its `@id`: what decisions and the audit log call it.
        because: Why it forbids, for people; `{name}` stands for a word of the question.
    """

    id: str
    because: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """An answer with its reasons.

    Attributes:
        policies: Ids of the policies that made it so, in the order in which they are written; none when nothing fits.
        because, hint: Of the first of them that forbids, with the words of the question; empty when none does.
        errors: What could not be evaluated: then the answer is no, whatever else there is.
        set_sha256: Which policies were asked.
        is_beyond_scope: No policy was asked, since a token's scope does not hold it.
    """

    is_allowed: bool
    policies: tuple[str, ...]
    because: str
    hint: str
    errors: tuple[str, ...]
    set_sha256: str
    is_beyond_scope: bool = False

    @property
    def reason(self) -> str:
        """Why not, as leaves have it."""
        if self.errors:
            return "policy_failed"
        if self.is_beyond_scope:
            return "beyond_scope"
        return self.policies[0] if self.policies else "no_policy_allows_it"

    @property
    def told(self) -> dict[str, JsonValue]:
        """What a leaf says of it."""
        return {"policy": {"set_sha256": self.set_sha256, "determining": list(self.policies)}}

    def denied(self, otherwise: str) -> Denied:
        """The error for whoever asked.

        Args:
            otherwise: Why not, when no policy says so itself.
        """
        if self.errors:
            return Denied(
                "A policy cannot be evaluated here, so this is denied.", hint="`regie policy test` says more."
            )
        return Denied(self.because or otherwise, hint=self.hint or None)


class _Answer(NamedTuple):
    """What Cedar says: `found` are the policies that made it so, in the order in which they are written."""

    is_allowed: bool
    found: tuple[Policy, ...]
    errors: tuple[str, ...]


class Policies:
    """Parsed policies.

    Args:
        files: Their texts by file name.

    Raises:
        DefinitionError: With every fault of every file.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        if faults := faults_of(files):
            raise DefinitionError(faults)
        text = "\n".join(files[name] for name in sorted(files, key=_order))
        self.sha256 = canonical.digest(dict(files))
        self.known = _known(text)
        self._set = cedarpy.PolicySet.from_str(text)
        # Cedar knows nothing but the question. That a step may ask for something is the same for each run of a
        # workflow, and asking again would cost more than anything else that is done for it before a vendor is called.
        self._asked = lru_cache(maxsize=ANSWERS)(self._ask)

    def decide(self, request: Request) -> Decision:
        """Answer a question. Never raises: what cannot be evaluated is a no."""
        try:
            answer = self._asked(
                request.principal.ref,
                request.action,
                request.resource.ref,
                json.dumps({name: _json(value) for name, value in request.context.items()}),
                json.dumps([_entity(request.principal), _entity(request.resource)]),
            )
        except Exception as error:  # noqa: BLE001  whatever it is, the answer is no
            answer = _Answer(is_allowed=False, found=(), errors=(str(error),))
        first = answer.found[0] if answer.found and not answer.is_allowed else None
        return Decision(
            is_allowed=answer.is_allowed,
            policies=tuple(each.id for each in answer.found),
            because=first.because.format_map(_Words(request.words)) if first else "",
            hint=first.hint.format_map(_Words(request.words)) if first else "",
            errors=answer.errors,
            set_sha256=self.sha256,
        )

    def beyond_scope(self) -> Decision:
        """The no for a program that asks for what its token's scope does not hold: no policy is asked about that."""
        return Decision(
            is_allowed=False, policies=(), because="", hint="", errors=(), set_sha256=self.sha256, is_beyond_scope=True
        )

    def _ask(self, principal: Ref, action: str, resource: Ref, context: str, entities: str) -> _Answer:
        answer = cedarpy.is_authorized(
            {
                "principal": principal._asdict(),
                "action": {"type": "Action", "id": action},
                "resource": resource._asdict(),
                "context": context,
            },
            self._set,
            entities,
            _schema(),
        )
        told = answer.diagnostics
        errors = tuple(told.errors)
        found = tuple(self.known[name] for name in sorted(told.reasons, key=_position) if name in self.known)
        return _Answer(is_allowed=answer.allowed and not errors, found=found, errors=errors)


def policies_of(release: Release) -> Policies:
    """The policies of a release, parsed once in a process.

    A release that says nothing of policies was loaded before there were any: ours count for it.

    Raises:
        Denied: They cannot be used: this version does not understand them.
    """
    try:
        return _parsed(tuple((release.policies or shipped()).items()))
    except DefinitionError as error:
        raise Denied(
            "This version of Regie cannot use the policies of the current release, so everything is denied.",
            hint="Load the workspace again: regie release load",
        ) from error


@lru_cache(maxsize=RELEASES)
def _parsed(files: tuple[tuple[str, str], ...]) -> Policies:
    return Policies(dict(files))


@cache
def shipped() -> Mapping[str, str]:
    """Our own policies by file name."""
    return {file.name: file.read_text(encoding="utf-8") for file in sorted(SHIPPED.glob("*.cedar"))}


def _order(name: str) -> tuple[bool, str]:
    """What always holds first, so that its reasons are told first."""
    return name != ALWAYS, name


def faults_of(files: Mapping[str, str], path_of: Mapping[str, str] | None = None) -> list[Fault]:
    """Everything wrong with the texts of policies, by line.

    Args:
        files: Texts by file name.
        path_of: What faults call the files, when not by their names.
    """
    faults: list[Fault] = []
    places: dict[str, str] = {}
    for name, text in files.items():
        path = (path_of or {}).get(name, name)
        for statement in statements(text):
            place = f"{path}:{statement.line}"
            found = _faults_of_one(statement.text)
            if not found:
                [policy] = _known(statement.text).values()
                if policy.id in places:
                    found = [(f"the id {policy.id} is taken, in {places[policy.id]}", "Choose another one.")]
                places.setdefault(policy.id, place)
            faults += [Fault(path, statement.line, 1, message, hint) for message, hint in found]
    return faults


def _faults_of_one(text: str) -> list[tuple[str, str | None]]:
    """What is wrong with one policy: a message and a hint each."""
    try:
        written = json.loads(cedarpy.policies_to_json_str(text))
    except ValueError as error:
        return [(f"this is no Cedar policy: {error}", "See https://docs.cedarpolicy.com/policies/syntax-policy.html.")]
    if written["templates"]:
        return [("a policy cannot have slots (?principal, ?resource)", "Name whom it is about.")]
    told = cedarpy.validate_policies(text, _schema())
    if told.errors:
        return [(error.error.replace("for policy `policy0`, ", ""), None) for error in told.errors]
    faults: list[tuple[str, str | None]] = []
    [policy] = _known(text).values()
    if not policy.id.isidentifier() or not policy.id.isascii() or not policy.id.islower():
        faults.append(("a policy needs a name of its own", '@id("name_of_it") before it, in lower case.'))
    for note in (policy.because, policy.hint):
        faults += [
            (f"there is no word {{{name}}}", f"There are: {', '.join(sorted(WORDS))}.") for name in _strange(note)
        ]
    return faults


def _strange(note: str) -> list[str]:
    """Names in braces that stand for nothing."""
    try:
        named = [name for _, name, form, conversion in Formatter().parse(note) if name is not None]
    except ValueError:
        return [note]
    return [name for name in named if name not in WORDS]


def _known(text: str) -> dict[str, Policy]:
    """The policies in a text by the names that Cedar gives them: their numbers."""
    written = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"]
    known = {}
    for name in sorted(written, key=_position):
        notes = written[name].get("annotations", {})
        known[name] = Policy(notes.get("id") or "", notes.get("because") or "", notes.get("hint") or "")
    return known


def _position(name: str) -> int:
    return int(name.removeprefix("policy"))


@cache
def _schema() -> cedarpy.Schema:
    return cedarpy.Schema.from_str((SHIPPED / "regie.cedarschema").read_text(encoding="utf-8"))


class _Words(dict[str, str]):
    """The words of a question; what it has none for is left out."""

    def __missing__(self, name: str) -> str:
        return ""


def _entity(entity: Entity) -> JsonValue:
    return {
        "uid": entity.ref._asdict(),
        "attrs": {name: _json(value) for name, value in entity.attributes.items()},
        "parents": [parent._asdict() for parent in entity.parents],
    }


def _json(value: Value) -> JsonValue:
    match value:
        case Ref():
            return {"__entity": {"type": value.type, "id": value.id}}
        case frozenset():
            members: list[str | Ref] = sorted(value)
            return [_json(each) for each in members]
        case _:
            return value
