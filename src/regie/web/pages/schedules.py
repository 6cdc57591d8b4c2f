"""The page of what starts by itself as time goes."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from regie.core.reach import Act
from regie.web.means import Having
from regie.web.pages.looking import LOOKING
from regie.web.pages.rendering import page
from regie.web.pages.visitor import Visiting
from regie.web.schedules import lines

router = APIRouter()


@router.api_route("/schedules", methods=LOOKING)
async def schedules(means: Having, visitor: Visiting) -> Response:
    """Every schedule and poll, the next one first."""
    visitor.caller.require_somewhere(Act.LOOK)
    async with means.database.reading() as tx:
        found = await lines(tx, visitor.caller)
    return page("schedules.html", visitor, lines=found)
