"""Pages about what can be done: the blocks, and the workflows made of them. Generated from code and definitions."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic_core import PydanticUndefined

from regie.core.block import Block, Catalogue
from regie.core.capability import Record
from regie.core.definition import Definition, Step
from regie.core.errors import InvalidInput, NotFound
from regie.core.reach import Act
from regie.core.shape import Shape, of_annotation
from regie.store import releases
from regie.web.means import Having, current_release
from regie.web.pages.looking import LOOKING
from regie.web.pages.rendering import page
from regie.web.pages.visitor import Visiting
from regie.web.pages.wording import KINDS, first_sentence, value
from regie.web.workflows import workflows_for

router = APIRouter()


@dataclass(frozen=True, slots=True)
class FieldLine:
    """One field of what a block takes or gives."""

    name: str
    kind: str
    default: str
    is_required: bool


@dataclass(frozen=True, slots=True)
class BlockView:
    """A block as the catalogue shows it."""

    block: Block
    takes: list[FieldLine]
    gives: list[FieldLine]


@router.api_route("/blocks", methods=LOOKING)
async def blocks(means: Having, visitor: Visiting) -> Response:
    """Every block, with what it takes, gives and does to the outside."""
    nouns: dict[str, list[BlockView]] = {}
    for name, block in means.catalogue.items():
        view = BlockView(block, fields_of(block.arguments), fields_of(block.gives))
        nouns.setdefault(name.partition(".")[0], []).append(view)
    return page("blocks.html", visitor, nouns=nouns)


@router.api_route("/workflows", methods=LOOKING)
async def workflows(means: Having, visitor: Visiting) -> Response:
    """The workflows of the current release of which the visitor sees runs."""
    visitor.caller.require_somewhere(Act.LOOK)
    async with means.database.reading() as tx:
        release = await current_release(tx)
    domains: dict[str, list[Definition]] = {}
    for definition, _ in workflows_for(visitor.caller, release):
        domains.setdefault(definition.domain, []).append(definition)
    return page("workflows.html", visitor, release=release, domains=domains)


@router.api_route("/workflows/{workflow}", methods=LOOKING)
async def workflow(means: Having, visitor: Visiting, workflow: str, release: str | None = None) -> Response:
    """One workflow: as its owner wrote it, and what that means. `release` shows the one a run is pinned to."""
    visitor.caller.require_somewhere(Act.LOOK)
    async with means.database.reading() as tx:
        current = await current_release(tx)
        try:
            shown = current if release is None else await releases.get(tx, release)
            seen = {each.workflow: (each, slugs) for each, slugs in workflows_for(visitor.caller, shown)}
            definition, slugs = seen[workflow]
        except (InvalidInput, KeyError):
            raise NotFound("There is no such workflow.") from None
    having = sorted(shown.tenants[slug].title for slug in slugs)
    return page(
        "workflow.html",
        visitor,
        definition=definition,
        release=shown,
        is_current=shown.digest == current.digest,
        tenants=having,
        catalogue=means.catalogue,
        title_of=lambda step: title_of(step, means.catalogue),
    )


def title_of(step: Step, catalogue: Catalogue) -> str:
    """What a step does, in a sentence."""
    if step.uses and step.uses in catalogue:
        return first_sentence(catalogue[step.uses].summary)
    return KINDS.get(step.kind, step.uses or step.kind)


def fields_of(record: type[Record]) -> list[FieldLine]:
    """The fields of a record in words; those of lists of records follow under a dotted name."""
    lines = []
    for name, field in record.model_fields.items():
        shape = of_annotation(field.annotation)
        default = "" if field.is_required() or field.default is PydanticUndefined else value(field.default)
        lines.append(FieldLine(name, _kind(shape), default, field.is_required()))
        inner = shape.item if shape.item is not None and shape.item.fields else None
        if inner is not None and inner.fields is not None:
            lines += [
                FieldLine(f"{name}[].{part}", _kind(of), "", part in inner.required)
                for part, of in inner.fields.items()
            ]
    return lines


def _kind(shape: Shape) -> str:
    if shape.words:
        return "one of " + ", ".join(sorted(shape.words))
    of = f" of {_several(shape.item)}" if shape.item is not None and shape.may_be("a list") else ""
    return shape.in_words() + of


def _several(shape: Shape) -> str:
    return shape.in_words().removeprefix("a ").removeprefix("an ") + "s"
