"""Pages on which a person steers a run: cancel, pause, resume, repeat from a step. Each asks before it acts."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from regie.core.definition import Definition
from regie.core.errors import InvalidInput
from regie.core.run import RunState
from regie.core.status import StepStatus
from regie.store import releases
from regie.web import steering
from regie.web.means import Having, Means
from regie.web.pages.looking import LOOKING
from regie.web.pages.rendering import page
from regie.web.pages.visitor import Visiting, Visitor, form_of
from regie.web.permitting import decision_on_steering, refused_steer
from regie.web.problems import Conflict
from regie.web.seeing import run_for, state_of

router = APIRouter()

Act = Literal["cancel", "pause", "resume", "rerun"]


@dataclass(frozen=True, slots=True)
class Asking:
    """What a page asks before it acts.

    Attributes:
        says: What will happen, in words.
    """

    act: Act
    heading: str
    says: str
    button: str
    is_destructive: bool = False


ASKING: dict[Act, Asking] = {
    "cancel": Asking(
        "cancel",
        "Cancel this run?",
        "It begins nothing new and ends as cancelled once what is out has come back. What has been changed stays "
        "changed. The ticket is told by whom and why.",
        "Cancel the run",
        is_destructive=True,
    ),
    "pause": Asking(
        "pause",
        "Pause this run?",
        "It begins nothing new until somebody resumes it. What is out comes back and is recorded; answers and times "
        "that come meanwhile take effect then.",
        "Pause the run",
    ),
    "resume": Asking(
        "resume",
        "Resume this run?",
        "It goes on where it stood. Answers that came meanwhile take effect now, then times that have passed.",
        "Resume the run",
    ),
    "rerun": Asking(
        "rerun",
        "Repeat this run from a step?",
        "A new run takes over the results of the steps before that one and does the rest. No change is made twice; "
        "people are asked again about what they had agreed to.",
        "Start the new run",
    ),
}


class Said(BaseModel):
    """The form of a page that asks for a reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str = Field(default="", max_length=steering.LONGEST_REASON)


class Chosen(BaseModel):
    """The form of the page that repeats a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    from_step: str = Field(min_length=1, max_length=200)
    release: Literal["same", "current"] = "same"


@router.api_route("/runs/{run}/cancel", methods=LOOKING)
async def ask_cancel(means: Having, visitor: Visiting, run: str) -> Response:
    """Ask whether to cancel."""
    return await _ask(means, visitor, run, "cancel")


@router.post("/runs/{run}/cancel")
async def cancel(means: Having, visitor: Visiting, run: str, said: Annotated[Said, Depends(form_of(Said))]) -> Response:
    """Cancel a run."""
    try:
        await steering.cancel(means, visitor.caller, run, said.reason)
    except Conflict as error:
        return await _ask(means, visitor, run, "cancel", fault=error.message)
    return _back(run)


@router.api_route("/runs/{run}/pause", methods=LOOKING)
async def ask_pause(means: Having, visitor: Visiting, run: str) -> Response:
    """Ask whether to pause."""
    return await _ask(means, visitor, run, "pause")


@router.post("/runs/{run}/pause")
async def pause(means: Having, visitor: Visiting, run: str, said: Annotated[Said, Depends(form_of(Said))]) -> Response:
    """Pause a run."""
    try:
        await steering.pause(means, visitor.caller, run, said.reason)
    except Conflict as error:
        return await _ask(means, visitor, run, "pause", fault=error.message)
    return _back(run)


@router.api_route("/runs/{run}/resume", methods=LOOKING)
async def ask_resume(means: Having, visitor: Visiting, run: str) -> Response:
    """Ask whether to resume."""
    return await _ask(means, visitor, run, "resume")


@router.post("/runs/{run}/resume")
async def resume(means: Having, visitor: Visiting, run: str, said: Annotated[Said, Depends(form_of(Said))]) -> Response:
    """Let a paused run go on."""
    try:
        await steering.resume(means, visitor.caller, run, said.reason)
    except Conflict as error:
        return await _ask(means, visitor, run, "resume", fault=error.message)
    return _back(run)


@router.api_route("/runs/{run}/rerun", methods=LOOKING)
async def ask_rerun(means: Having, visitor: Visiting, run: str) -> Response:
    """Ask from which step to repeat a run."""
    return await _ask(means, visitor, run, "rerun")


@router.post("/runs/{run}/rerun")
async def rerun(
    means: Having, visitor: Visiting, run: str, chosen: Annotated[Chosen, Depends(form_of(Chosen))]
) -> Response:
    """Start a run that repeats this one; sent twice from the same sign-in, it starts one."""
    wanted = steering.Rerun.model_validate({"from": chosen.from_step, "release": chosen.release})
    once = f"page:{visitor.csrf}:{run}:{chosen.from_step}:{chosen.release}"
    try:
        started = await steering.rerun(means, visitor.caller, run, wanted, once)
    except InvalidInput as error:
        return await _ask(means, visitor, run, "rerun", fault=f"{error.message} {error.hint or ''}".strip())
    return _back(started.id)


def _back(run: str) -> Response:
    return RedirectResponse(f"/runs/{run}", HTTPStatus.SEE_OTHER)


async def _ask(means: Means, visitor: Visitor, run: str, act: Act, *, fault: str = "") -> Response:
    async with means.database.reading() as tx:
        row = await run_for(tx, visitor.caller, run)
        decision = await decision_on_steering(tx, visitor.caller, row, act, paused_by=visitor.caller.address)
        if not decision.is_allowed:
            raise refused_steer(visitor.caller, row, act, decision, "" if act == "rerun" else steering.ASKERS_STEER)
        definition = (await releases.get(tx, row.release)).definition(row.workflow)
        state = await state_of(tx, row.key)
    return page(
        "steer.html",
        visitor,
        status=HTTPStatus.CONFLICT if fault else HTTPStatus.OK,
        row=row,
        title=definition.title,
        asking=ASKING[act],
        fault=fault,
        steps=[step.place for step in definition.steps],
        suggested=_suggested(definition, state),
        longest=steering.LONGEST_REASON,
    )


def _suggested(definition: Definition, state: RunState) -> str:
    """The first step that did not come to a good end."""
    for step in definition.steps:
        stands = state.steps.get(step.place)
        if stands is None or not (stands.status in (StepStatus.DONE, StepStatus.SKIPPED) or stands.handled):
            return step.place
    return definition.steps[0].place
