"""A block: a reusable kind of step, written as one function. The catalogue is all of them.

Blocks and domains declare with `@block`; the checker reads arguments and results from it, the worker calls it.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pydantic import create_model

from regie.core.capability import NAME, AnyCapability, Capability, Effect, Record

Want = TypeVar("Want", bound=Record)
Gives = TypeVar("Gives", bound=Record)


class Context(Protocol):
    """A block's only way to the outside world."""

    async def call(self, capability: Capability[Want, Gives], want: Want) -> Gives:
        """Read through a capability. Raises the errors of `core.errors` that the connector met."""
        ...

    async def change(self, capability: Capability[Want, Gives], want: Want) -> Gives:
        """Make at most one planned change and give the state afterwards.

        In a dry run, and while a plan for an approval is made, nothing is written and the foreseen state is given.
        """
        ...


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a step is tried, and how long it waits in between.

    The defaults see a step through about four minutes in which something does not answer: a restart of the gateway, a
    short outage of a vendor.

    Attributes:
        attempts: Tries in all, at least 1.
        first_s: Seconds before the second try; doubles with each further one.
        most_s: The longest wait in seconds.
    """

    attempts: int = 10
    first_s: float = 1.0
    most_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Block:
    """One entry of the catalogue.

    Attributes:
        name: `noun.verb`.
        needs: The capabilities it may use; the grant of each step that uses the block.
        arguments: A closed record with one field an argument.
        gives: The record it returns.
        summary: First line of the docstring.
        about: The rest of the docstring without the example.
        example: The YAML under `Example:`.
        retry: Default, unless the step says otherwise.
        timeout_s: Default seconds for one attempt.
        function: What a worker calls; none for `people.approve`, which the interpreter itself carries out.
    """

    name: str
    needs: tuple[AnyCapability, ...]
    arguments: type[Record]
    gives: type[Record]
    summary: str
    about: str
    example: str
    retry: Retry = field(default_factory=Retry)
    timeout_s: float = 60.0
    function: Callable[..., Awaitable[Record]] | None = None

    @property
    def effect(self) -> Effect:
        """The strongest effect among the capabilities it needs."""
        return max((need.effect for need in self.needs), key=lambda effect: effect.rank, default=Effect.READ)


Catalogue = Mapping[str, Block]
"""All blocks by name."""


def block(
    name: str,
    *,
    needs: tuple[Capability[Any, Any], ...] = (),
    retry: Retry | None = None,
    timeout_s: float = 60.0,
) -> Callable[[Callable[..., Awaitable[Record]]], Block]:
    """Turn an async function into a block. Its signature is the argument model, its docstring the catalogue page.

    Args:
        name: `noun.verb`.
        needs: Capabilities the function may use through its context.
        retry: Default retry rule.
        timeout_s: Default seconds for one attempt.

    Raises:
        TypeError: The function lacks a context, an annotation, a docstring or an `Example:`.
    """

    def register(function: Callable[..., Awaitable[Record]]) -> Block:
        if not NAME.match(name):
            raise TypeError(f"block {name!r} is not named noun.verb")
        summary, about, example = _read_docstring(name, inspect.getdoc(function) or "")
        hints = typing.get_type_hints(function)
        parameters = list(inspect.signature(function).parameters.values())
        if not parameters or hints.get(parameters[0].name) is not Context:
            raise TypeError(f"block {name} does not take a Context first")
        fields: dict[str, Any] = {
            parameter.name: (hints[parameter.name], ... if parameter.default is parameter.empty else parameter.default)
            for parameter in parameters[1:]
        }
        gives = hints.get("return")
        if not (isinstance(gives, type) and issubclass(gives, Record)):
            raise TypeError(f"block {name} does not return a Record")
        return Block(
            name=name,
            needs=needs,
            arguments=create_model(f"{name} arguments", __base__=Record, **fields),
            gives=gives,
            summary=summary,
            about=about,
            example=example,
            retry=retry or Retry(),
            timeout_s=timeout_s,
            function=function,
        )

    return register


def interpreted(name: str, *, arguments: type[Record], gives: type[Record], doc: str) -> Block:
    """Declare a block that the interpreter itself carries out, with the same catalogue page as any other."""
    summary, about, example = _read_docstring(name, inspect.cleandoc(doc))
    return Block(name=name, needs=(), arguments=arguments, gives=gives, summary=summary, about=about, example=example)


def _read_docstring(name: str, doc: str) -> tuple[str, str, str]:
    """Split a docstring into its first line, the text after it and the YAML under `Example:`."""
    before, found, example = doc.partition("Example:\n")
    if not before.strip() or not found:
        raise TypeError(f"block {name} has no docstring with an Example:")
    summary, _, about = before.strip().partition("\n")
    return summary.strip(), re.sub(r"\s+", " ", about).strip(), inspect.cleandoc(example)
