"""An authority that says when to renew: it is asked, and told what an order replaces."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from regie import connectors
from regie.core.capabilities import certificate
from regie.core.status import RunStatus
from regie.gateway.backends.secrets import Secrets
from regie.gateway.budgets import Budgets
from regie.gateway.connections import Connections
from regie.kit.connector import Read
from regie.kit.discovery import connectors_in
from regie.store import releases
from regie.store.database import Database
from tests.counterparts.ari import Ari

from .conftest import Outside
from .stage import DOMAIN, TENANT, Stage, World, opened

pytestmark = pytest.mark.slow

WINDOW = (datetime(2027, 1, 3, tzinfo=UTC), datetime(2027, 1, 4, tzinfo=UTC) + timedelta(hours=6))


@pytest.fixture
async def authority(outside: Outside) -> AsyncIterator[Ari]:
    made = Ari(outside.pebble.trust)
    yield made
    await made.shut()


@pytest.fixture
async def stage(database: Database, tmp_path: Path, world: World, authority: Ari) -> AsyncIterator[Stage]:
    async with opened(database, tmp_path, world, transport_for=lambda _: authority) as made:
        yield made


def name_at_authority(served: x509.Certificate) -> str:
    """RFC 9773, 4.1, by hand."""
    key = served.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert key is not None
    number = served.serial_number
    serial = number.to_bytes((number.bit_length() + 8) // 8, "big")
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (key, serial))


async def test_orders_say_what_they_replace_and_are_made_without_when_it_was_replaced_before(
    stage: Stage, authority: Ari
) -> None:
    await stage.renew("site")
    first, named = stage.serial(), name_at_authority(stage.served())
    state = await stage.renew("site", first)
    assert state.status is RunStatus.DONE, state.failure
    assert authority.replaced == [named]
    # Somebody puts the old one back and renews it again.
    (stage.world.shelf / "site.serial").write_text(first)
    state = await stage.renew("site", first)
    assert state.status is RunStatus.DONE, state.failure
    assert authority.replaced == [named]


@pytest.mark.parametrize("is_known", [True, False])
async def test_the_window_of_a_certificate(stage: Stage, authority: Ari, *, is_known: bool) -> None:
    await stage.renew("site")
    served = stage.served()
    if is_known:
        authority.windows[name_at_authority(served)] = WINDOW
    key = served.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier or b""
    asked = certificate.RenewalQuery(authority_key=key.hex(), serial=stage.serial(), connection="authority")
    # No workflow asks yet, so no run would be granted it.
    connections = Connections(
        Secrets(stage.vault), connectors_in(connectors), Budgets(stage.database), stage.database, lambda _: authority
    )
    async with stage.database.reading() as tx:
        release = await releases.current(tx)
    name = certificate.RENEWAL_WINDOW.name
    serving = connections.serving(release, TENANT, DOMAIN, name, through="authority")
    read = serving.connector.implementation(name)
    assert isinstance(read, Read)
    reading = await read.read(asked)
    await connections.aclose()
    if not is_known:
        assert reading == certificate.RenewalWindow(offered=False)
    else:
        assert (reading.offered, reading.start, reading.end, reading.again_after_s) == (True, *WINDOW, 21600.0)
