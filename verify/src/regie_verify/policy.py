"""Whom to trust: keys of logs, keys of witnesses, and how many of those must have signed (c2sp.org/tlog-policy)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from regie_verify.notes import LOG, WITNESS, Key, Note, Unreadable

Rule = Callable[[Note], bool]


@dataclass
class Policy:
    """A policy file. `quorum` is met by a note that enough witnesses have signed."""

    logs: list[Key] = field(default_factory=list)
    witnesses: dict[str, Key] = field(default_factory=dict)
    rules: dict[str, Rule] = field(default_factory=dict)
    quorum: str = ""

    @classmethod
    def read(cls, text: str) -> Policy:
        """Read a policy.

        Raises:
            Unreadable: A line is wrong, or there is not exactly one quorum.
        """
        policy = cls()
        for line in text.splitlines():
            words = line.split()
            if words and not words[0].startswith("#"):
                policy._take(words)
        if not policy.quorum:
            raise Unreadable("a policy must have a line with the quorum")
        return policy

    def is_met(self, note: Note) -> bool:
        """Whether enough witnesses have signed a note."""
        return self.quorum == "none" or self.rules[self.quorum](note)

    def _take(self, words: list[str]) -> None:
        match words:
            case ["log", vkey, *rest] if len(rest) < 2:
                self.logs.append(_key(vkey, LOG))
            case ["witness", name, vkey, *rest] if len(rest) < 2:
                self._name(name, _signed_by(_key(vkey, WITNESS)))
                self.witnesses[name] = _key(vkey, WITNESS)
            case ["group", name, count, *members] if members:
                self._name(name, self._group(count, members))
            case ["quorum", name] if not self.quorum and (name == "none" or name in self.rules):
                self.quorum = name
            case _:
                raise Unreadable(f"a policy cannot say {' '.join(words)!r} there")

    def _name(self, name: str, rule: Rule) -> None:
        if name == "none" or name in self.rules:
            raise Unreadable(f"a policy cannot call two things {name!r}")
        self.rules[name] = rule

    def _group(self, count: str, members: list[str]) -> Rule:
        words = {"any": 1, "all": len(members)}
        needed = words[count] if count in words else int(count) if count.isascii() and count.isdigit() else 0
        if not 1 <= needed <= len(members) or len(set(members)) < len(members) or not set(members) <= set(self.rules):
            raise Unreadable(f"a policy cannot have a group of {count} of {' '.join(members)}")
        rules = [self.rules[member] for member in members]
        return lambda note: sum(rule(note) for rule in rules) >= needed


def _signed_by(key: Key) -> Rule:
    return lambda note: note.signed_at(key) is not None


def _key(vkey: str, kind: int) -> Key:
    key = Key.read(vkey)
    if key.kind != kind:
        raise Unreadable(f"{vkey!r} is a key of another kind")
    return key
