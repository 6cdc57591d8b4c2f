"""The page of figures: how each domain does, as bars and numbers, without scripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict

from regie.store import figures
from regie.store.figures import Part
from regie.web.figures import DomainFigures, Window, asked_by, read_figures
from regie.web.means import Having
from regie.web.pages.looking import LOOKING
from regie.web.pages.rendering import page
from regie.web.pages.visitor import Visiting

PARTS = 24
"""Into how many parts the window is cut for the bars."""
HEIGHT = 40
"""Of the highest bar, in units of its drawing; a part is 10 wide."""
WIDE = 10

WINDOWS = {"hour": 3_600.0, "day": 86_400.0, "week": 7 * 86_400.0, "month": 30 * 86_400.0}
"""Seconds, by the word that people choose."""

router = APIRouter()


class Choice(BaseModel):
    """What the page is asked for; a word that is none means a day."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: str = "day"


@dataclass(frozen=True, slots=True)
class Bar:
    """One part of the window: where it stands and how high it is, in units of the drawing."""

    x: int
    height: float
    failed_height: float


@dataclass(frozen=True, slots=True)
class DomainView:
    """One domain as the page shows it."""

    figures: DomainFigures
    bars: list[Bar]
    most: int

    @property
    def ended(self) -> int:
        """How many runs ended."""
        return sum(self.figures.ended.values())


@router.api_route("/figures", methods=LOOKING)
async def show(means: Having, visitor: Visiting, wanted: Annotated[Choice, Query()]) -> Response:
    """How the domains do, over what whoever looks may see."""
    chosen = wanted.window if wanted.window in WINDOWS else "day"
    window = Window(window_s=WINDOWS[chosen])
    async with means.database.reading() as tx:
        shown = await read_figures(tx, visitor.caller, window)
        parts = await figures.by_time(tx, asked_by(visitor.caller, window), PARTS)
    views = [_view(each, parts.get(each.domain, [])) for each in shown.domains]
    return page(
        "figures.html",
        visitor,
        shown=shown,
        views=views,
        chosen=chosen,
        windows=list(WINDOWS),
        parts=PARTS,
        width=PARTS * WIDE,
        height=HEIGHT,
    )


def _view(shown: DomainFigures, parts: list[Part]) -> DomainView:
    most = max((part.ended for part in parts), default=0)
    bars = [
        Bar(
            x=part.number * WIDE,
            height=round(HEIGHT * part.ended / most, 2),
            failed_height=round(HEIGHT * part.failed / most, 2),
        )
        for part in parts
    ]
    return DomainView(shown, bars, most)
