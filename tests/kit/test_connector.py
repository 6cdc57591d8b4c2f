"""The shape of a connector: what `provides` insists on and what every write gets for nothing."""

from __future__ import annotations

import httpx2
import pytest
from pydantic import JsonValue

from regie.core.capability import Capability, Effect, Record
from regie.core.effect import Repeat
from regie.core.errors import Denied, Terminal
from regie.core.plan import Change, NoChange, Receipt
from regie.kit.connector import Connector, Read, Seen, Settings, Write, provided, provides
from regie.kit.session import Session


class Lamp(Record):
    room: str


class Light(Record):
    room: str
    on: bool


LOOK = Capability("lamp.look", Effect.READ, Lamp, Light, "Look at a lamp.")
LIGHT = Capability("lamp.light", Effect.WRITE, Lamp, Light, "Light a lamp.")


class _Switch(Write[Lamp, Light]):
    repeat = Repeat.OBSERVABLE
    settle_s = 4.0
    looks = 0

    async def observe(self, want: Lamp, marker: str) -> Seen:
        self.looks += 1
        return {"room": want.room, "on": self.looks > int(str(self.settings["dark_looks"]))}

    def plan(self, want: Lamp, seen: Seen) -> NoChange | Change:
        if seen["on"]:
            return self.no_change(f"lamp:{want.room}", "it is on")
        return self.change(f"lamp:{want.room}", f"Lamp in {want.room}", ("on", False, True))

    async def apply(self, want: Lamp, change: Change, marker: str) -> Receipt:
        return Receipt()

    def gives(self, want: Lamp, seen: Seen) -> Light:
        return Light(room=want.room, on=bool(seen["on"]))


class House(Connector):
    @provides(LIGHT, permissions=["lamp:switch"])
    class LightLamp(_Switch):
        """Light it."""

    @provides(LOOK, permissions=["lamp:look"])
    class LookAtLamp(Read[Lamp, Light]):
        """Look at it."""

        async def read(self, want: Lamp) -> Light:
            await self.session.get("/lamp")
            return Light(room=want.room, on=True)


def house(settings: Settings) -> House:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(403))
    client = httpx2.AsyncClient(transport=transport, base_url="https://house.example.com")
    return House(Session(client, vendor="House"), settings)


def write(dark_looks: int) -> _Switch:
    found = house({"dark_looks": dark_looks}).implementation("lamp.light")
    assert isinstance(found, _Switch)
    return found


class Clock:
    def __init__(self) -> None:
        self.pauses: list[float] = []

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


def test_what_is_provided_is_listed_by_name() -> None:
    found = provided(House)
    assert list(found) == ["lamp.light", "lamp.look"]
    assert found["lamp.light"].repeat is Repeat.OBSERVABLE
    assert found["lamp.look"].repeat is None
    assert found["lamp.look"].permissions == ("lamp:look",)


def test_what_is_not_provided_is_denied() -> None:
    with pytest.raises(Denied, match=r"lamp\.sell"):
        house({}).implementation("lamp.sell")


async def test_an_implementation_knows_the_permissions_it_needs() -> None:
    look = house({}).implementation("lamp.look")
    assert isinstance(look, Read)
    with pytest.raises(Terminal, match="lamp:look"):
        await look.read(Lamp(room="attic"))


def test_a_dry_run_foresees_the_change() -> None:
    subject, want = write(0), Lamp(room="attic")
    seen: dict[str, JsonValue] = {"room": "attic", "on": False}
    plan = subject.plan(want, seen)
    assert isinstance(plan, Change)
    assert subject.gives(want, subject.foreseen(plan, seen)) == Light(room="attic", on=True)
    assert seen["on"] is False


async def test_patience_ends_when_it_shows() -> None:
    clock = Clock()
    seen = await write(2).observe_patiently(Lamp(room="attic"), "regie-1", clock.pause)
    assert seen["on"] is True
    assert clock.pauses == [0.5, 1.0]


async def test_patience_ends_when_it_would_have_shown() -> None:
    clock = Clock()
    seen = await write(99).observe_patiently(Lamp(room="attic"), "regie-1", clock.pause)
    assert seen["on"] is False
    assert sum(clock.pauses) == _Switch.settle_s


async def test_a_write_that_finishes_at_once_has_nothing_to_resume() -> None:
    with pytest.raises(Terminal, match=r"lamp\.light"):
        await write(0).resume(Lamp(room="attic"), "handle")


def test_a_connector_without_webhooks_ignores_them() -> None:
    assert House.inbound({}, {"any": "thing"}).kind == "ignored"


def test_a_declaration_must_be_complete() -> None:
    class Undocumented(_Switch):
        pass

    class Unrepeatable(_Switch):
        """Light it."""

    del Undocumented.__doc__
    Unrepeatable.repeat = None  # type: ignore[assignment]  # what an author forgets
    for implementation, permissions, message in (
        (Undocumented, ["lamp:switch"], "docstring"),
        (Unrepeatable, ["lamp:switch"], "repeat"),
        (House.LightLamp, [], "permission"),
    ):
        with pytest.raises(TypeError, match=message):
            provides(LIGHT, permissions=permissions)(implementation)
    with pytest.raises(TypeError, match="derives from Write"):
        provides(LIGHT, permissions=["lamp:look"])(House.LookAtLamp)
    with pytest.raises(TypeError, match="derives from Read"):
        provides(LOOK, permissions=["lamp:look"])(House.LightLamp)


def test_a_capability_is_provided_once() -> None:
    class Twice(Connector):
        A = House.LightLamp
        B = House.LightLamp

    with pytest.raises(TypeError, match="twice"):
        provided(Twice)
