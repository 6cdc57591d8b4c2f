"""The hand above the company's servers: where they are, what was done to them, and what a hand may do."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

from regie_sandbox.servers.company import Company


class ByHand(BaseModel):
    """A certificate that somebody puts in place: how long it lives, and what is left of that, in days."""

    model_config = ConfigDict(extra="forbid")

    lifetime_days: int
    left_days: int


def make_app(company: Company) -> FastAPI:
    """Everything below `/servers`."""
    app = FastAPI(title="Servers of an imaginary company", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/servers")
    async def places() -> dict[str, Any]:
        return company.places()

    @app.get("/servers/counts")
    async def counts() -> dict[str, int]:
        return company.counts()

    @app.get("/servers/state")
    async def state() -> dict[str, Any]:
        found = await company.state()
        canonical = json.dumps(found, sort_keys=True, separators=(",", ":"))
        return found | {"digest": hashlib.sha256(canonical.encode()).hexdigest()}

    @app.put("/servers/certificates/{name}")
    async def put_by_hand(name: str, wanted: ByHand) -> dict[str, str]:
        return {"serial": await company.put_by_hand(name, **wanted.model_dump())}

    @app.put("/servers/visitor", status_code=204)
    async def come() -> None:
        await company.visitor.go()
        company.visitor.come()

    @app.get("/servers/visitor")
    async def visited() -> dict[str, Any]:
        return {name: asdict(seen) for name, seen in company.visitor.seen.items()}

    @app.delete("/servers/visitor")
    async def go() -> dict[str, Any]:
        await company.visitor.go()
        return {name: asdict(seen) for name, seen in company.visitor.seen.items()}

    return app
