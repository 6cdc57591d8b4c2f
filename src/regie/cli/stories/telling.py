"""What a domain brings to be shown: a tale for `regie demo`, and a way to run its workflows for `regie prove`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from regie.cli.story import Story
from regie.cli.terminal import err
from regie.core.definition import Definition


class Tale(ABC):
    """The story of a domain's main job, told step by step in a running demo."""

    domain: ClassVar[str]

    @abstractmethod
    async def tell(self, story: Story) -> dict[str, Any]:
        """Let it happen; the summary, with what was not as it must be under `problems`."""

    @abstractmethod
    def show(self, summary: dict[str, Any]) -> None:
        """Print the summary for people."""

    @abstractmethod
    def places(self, web: str) -> list[tuple[str, str]]:
        """Addresses to open afterwards, each with what is to be seen there."""


@dataclass(frozen=True, slots=True)
class Once:
    """One run of a workflow on an imaginary world, and what the world counted.

    Attributes:
        run, status: The run that was started, and how it ended.
        subject: The ticket that it was about, if it was about one.
        writes: What changed outside, by system; a ticket's own comments and moves are left out where it is about one.
        ticket_writes: Those.
        world: Digest of the outside afterwards.
        failure: What became of it and why, in words, when it was not done; empty when it was.
    """

    run: str
    subject: str
    status: str
    writes: dict[str, int]
    ticket_writes: int
    world: str
    failure: str


class Rehearsal(ABC):
    """How a domain runs its workflows on its world, with the same wish each time."""

    domain: ClassVar[str]

    @abstractmethod
    def check(self, definition: Definition) -> None:
        """Make sure that a workflow can be run here, as far as that is known before anything is started for it.

        Raises:
            InvalidInput: It cannot.
        """

    @abstractmethod
    async def set_scene(self, story: Story, definition: Definition) -> dict[str, Any]:
        """Bring the world to where a first run has something to do; what the runs are to be given.

        Raises:
            InvalidInput: This workflow cannot be run here.
        """

    @abstractmethod
    async def run_once(self, story: Story, definition: Definition, given: dict[str, Any]) -> Once:
        """Run the workflow to its end, as a new request for the same thing."""


def headline(number: int, text: str) -> None:
    """Announce a part of a tale."""
    err.print(f"\n[bold]{number}. {text}[/bold]")


def show_plan(approval: dict[str, Any]) -> None:
    """Print what somebody is asked, and the changes that a yes is about."""
    err.print(f"   {approval['question']}", markup=False)
    for step in approval["plan"]:
        err.print(f"   {'~' if step['kind'] == 'change' else '='} {step['words']}", markup=False)
    err.print(f"   plan {approval['plan_sha256'][:16]}", style="dim")


def problems_in(expected: dict[str, bool]) -> list[str]:
    """What of the expected does not hold, in words."""
    return [f"not so: {what}" for what, holds in expected.items() if not holds]
