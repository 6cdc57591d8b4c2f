"""The site's admin webhook: tells a listener about new issues and their moves, signed, and again when it stumbles.

Rules: developer.atlassian.com/cloud/jira/platform/webhooks. Delivery is at least once: what was not delivered when
the process ended is sent again at the next start.
"""

import asyncio
import hashlib
import hmac
import json
import uuid
from typing import Any

import httpx2

from regie_sandbox.jira_shapes import Shapes
from regie_sandbox.tickets import STATUSES, Delivery, Ticket
from regie_sandbox.world import World

# Any other refusal is final: the vendor does not send a webhook again that was answered with 400 or 404.
RETRIED = {408, 409, 425, 429}


def sign(secret: str, body: bytes) -> str:
    """The value of `X-Hub-Signature` for a raw body."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


class Webhooks:
    """Keeps deliveries and sends them in the background of the running event loop."""

    def __init__(self, world: World, client: httpx2.AsyncClient) -> None:
        self._world = world
        self._client = client
        self._sending: dict[str, asyncio.Task[None]] = {}

    def announce(self, ticket: Ticket, site: str) -> Delivery | None:
        """Queue `jira:issue_created` for a new ticket; None when nobody registered a webhook."""
        if self._world.webhook()[0] is None:
            return None
        shapes = Shapes(self._world, site)
        return self._queue(
            ticket,
            {
                "timestamp": int(ticket.created.timestamp() * 1000),
                "webhookEvent": "jira:issue_created",
                "issue_event_type_name": "issue_created",
                "user": shapes.user(ticket.creator),
                "issue": shapes.issue(ticket),
            },
        )

    def announce_move(self, ticket: Ticket, former: str, site: str, by: str) -> Delivery | None:
        """Queue `jira:issue_updated` for a ticket that has another status than `former`, moved by an account's id.

        The change stands in `changelog`: ids as texts, names in `fromString` and `toString`.
        """
        if self._world.webhook()[0] is None or ticket.status == former:
            return None
        shapes, old, new = Shapes(self._world, site), STATUSES[former], STATUSES[ticket.status]
        moved = {
            "field": "status",
            "fieldtype": "jira",
            "fieldId": "status",
            "from": old.id,
            "fromString": old.name,
            "to": new.id,
            "toString": new.name,
        }
        return self._queue(
            ticket,
            {
                "timestamp": int(ticket.updated.timestamp() * 1000),
                "webhookEvent": "jira:issue_updated",
                "issue_event_type_name": "issue_generic",
                "user": shapes.user(by),
                "issue": shapes.issue(ticket),
                "changelog": {"id": str(uuid.uuid4().int % 10**6), "items": [moved]},
            },
        )

    def _queue(self, ticket: Ticket, payload: dict[str, Any]) -> Delivery:
        delivery = self._delivery(ticket, payload)
        self._world.save(delivery)
        self._start(delivery.identifier)
        return delivery

    @staticmethod
    def _delivery(ticket: Ticket, payload: dict[str, Any]) -> Delivery:
        body = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
        return Delivery(identifier=str(uuid.uuid4()), ticket_key=ticket.key, body=body)

    def deliveries_of(self, ticket_key: str) -> list[Delivery]:
        """The deliveries about one ticket, oldest first."""
        return [each for each in self._world.deliveries.values() if each.ticket_key == ticket_key]

    async def redeliver(self, delivery: Delivery) -> Delivery:
        """Send a delivery once more, now, with the same identifier and bytes; returns it with the answer's status."""
        await self._attempt(delivery.identifier)
        return self._world.deliveries[delivery.identifier]

    def resume(self) -> None:
        """Send what was still waiting when the process ended."""
        for each in self._world.deliveries.values():
            if each.state == "waiting":
                self._start(each.identifier)

    def _start(self, identifier: str) -> None:
        task = asyncio.get_running_loop().create_task(self._send(identifier))
        self._sending[identifier] = task
        task.add_done_callback(lambda _: self._sending.pop(identifier, None))

    async def settled(self) -> None:
        """Wait until nothing is on its way any more."""
        while self._sending:
            await asyncio.wait(set(self._sending.values()))

    async def stop(self) -> None:
        """Stop sending; what is not delivered stays waiting."""
        tasks = list(self._sending.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._sending.clear()

    async def _send(self, identifier: str) -> None:
        is_due = await self._attempt(identifier)
        while is_due:
            await asyncio.sleep(self._world.rules.webhook_retry_seconds)
            is_due = await self._attempt(identifier)

    async def _attempt(self, identifier: str) -> bool:
        """One attempt; whether another one is due."""
        delivery = self._world.deliveries.get(identifier)
        url, secret = self._world.webhook()
        if url is None or delivery is None:
            return False
        body = delivery.body.encode()
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Atlassian Webhook HTTP Client",
            "X-Atlassian-Webhook-Identifier": identifier,
            "X-Atlassian-Webhook-Flow": "Primary",
        }
        if delivery.attempts:
            headers["X-Atlassian-Webhook-Retry"] = str(delivery.attempts)
        if secret:
            headers["X-Hub-Signature"] = sign(secret, body)
        try:
            timeout = self._world.rules.webhook_timeout_seconds
            response = await self._client.post(url, content=body, headers=headers, timeout=timeout)
            status: int | None = response.status_code
        except httpx2.TransportError:
            status = None
        # The world went on while the listener answered: it may have been reset, or a hand may have delivered as well.
        delivery = self._world.deliveries.get(identifier)
        if delivery is None:
            return False
        attempts = delivery.attempts + 1
        if status is not None and 200 <= status < 300:
            state = "delivered"
        elif status is not None and status < 500 and status not in RETRIED:
            state = "refused"
        else:
            state = "waiting" if attempts <= self._world.rules.webhook_retries else "given up"
        self._world.save(delivery.model_copy(update={"attempts": attempts, "last_status": status, "state": state}))
        return state == "waiting"
