"""Commands about what is written: workflows, blocks, and whether a file is right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from regie.cli.checking import checked_release
from regie.cli.terminal import Json, out, print_json, print_table
from regie.core.block import Block
from regie.core.definition import Definition
from regie.core.errors import DefinitionError, Fault, InvalidInput
from regie.domains import load_catalogue
from regie.settings import Settings
from regie.workspace.loading import SHIPPED, read_workflow


def workflows(as_json: Json = False) -> None:
    """List the workflows: Regie's own and those of the workspace."""
    release = checked_release(workspace_folder())
    found = sorted(release.definitions.values(), key=lambda definition: definition.workflow)
    if as_json:
        print_json([_workflow(definition) for definition in found])
        return
    print_table(
        ("workflow", "title", "starts by", "owner"),
        ((each.workflow, each.title, ", ".join(_starts(each)), each.owner) for each in found),
        nothing="There are no workflows.",
        prose=("title", "starts by"),
    )


def _starts(definition: Definition) -> list[str]:
    return [start.in_words for start in definition.start] or ["a person"]


def _workflow(definition: Definition) -> dict[str, Any]:
    return {
        "workflow": definition.workflow,
        "title": definition.title,
        "about": definition.about,
        "owner": definition.owner,
        "digest": definition.digest,
        "start": [start.model_dump(mode="json") for start in definition.start],
        "input": [field.model_dump(mode="json") for field in definition.input],
    }


def blocks(
    name: Annotated[str | None, typer.Argument(help="One block, with its arguments and an example.")] = None,
    as_json: Json = False,
) -> None:
    """List the blocks that steps can use, or explain one."""
    catalogue = load_catalogue()
    if name is None:
        if as_json:
            print_json([_block(block) for block in catalogue.values()])
            return
        print_table(
            ("block", "effect", "what it does"),
            ((block.name, block.effect.value, block.summary) for block in catalogue.values()),
            nothing="There are no blocks.",
        )
        return
    if name not in catalogue:
        raise InvalidInput(f"There is no block {name!r}.", hint="`regie blocks` lists them.")
    block = catalogue[name]
    if as_json:
        print_json(_block(block))
        return
    out.print(f"[bold]{block.name}[/bold]  ({block.effect.value})\n{block.summary}\n")
    if block.about:
        out.print(block.about + "\n", markup=False)
    print_table(("argument", "type", ""), _arguments(block), nothing="It takes no arguments.")
    out.print("\ngives: " + ", ".join(block.gives.model_fields), markup=False)
    out.print("\n" + block.example, markup=False)


def _arguments(block: Block) -> list[tuple[str, str, str]]:
    fields = block.arguments.model_fields.items()
    return [
        (name, getattr(field.annotation, "__name__", str(field.annotation)), "" if field.is_required() else "optional")
        for name, field in fields
    ]


def _block(block: Block) -> dict[str, Any]:
    return {
        "block": block.name,
        "effect": block.effect.value,
        "summary": block.summary,
        "about": block.about,
        "needs": [need.name for need in block.needs],
        "arguments": block.arguments.model_json_schema(),
        "gives": block.gives.model_json_schema(),
        "example": block.example,
    }


def validate(
    paths: Annotated[list[Path] | None, typer.Argument(help="Workflow files, or folders of domains.")] = None,
    as_json: Json = False,
) -> None:
    """Check workflow files: every fault with file, line and column. Without a path: Regie's own and the workspace.

    Exit code 0 when all is right, 2 when there are faults.
    """
    catalogue = load_catalogue()
    faults: list[Fault] = []
    checked = 0
    if paths:
        for file in _files(paths):
            checked += 1
            try:
                read_workflow(file, catalogue)
            except DefinitionError as error:
                faults.extend(error.faults)
    else:
        try:
            checked = len(checked_release(workspace_folder()).definitions)
        except DefinitionError as error:
            faults.extend(error.faults)
    if as_json:
        print_json(
            {
                "ok": not faults,
                "checked": checked,
                "faults": [
                    {
                        "file": fault.file,
                        "line": fault.line,
                        "column": fault.column,
                        "message": fault.message,
                        "hint": fault.hint,
                    }
                    for fault in faults
                ],
            }
        )
        if faults:
            raise typer.Exit(2)
        return
    if faults:
        raise DefinitionError(faults)
    out.print(f"{checked} {'workflow' if checked == 1 else 'workflows'}, no faults.")


def workspace_folder() -> Path | None:
    """The folder of the workspace; none where there is none yet.

    Raises:
        InvalidInput: The folder that REGIE_WORKSPACE names does not exist.
    """
    settings = Settings()
    if settings.workspace_folder.is_dir():
        return settings.workspace_folder
    if settings.workspace:
        raise InvalidInput(f"There is no folder {settings.workspace}.", hint="REGIE_WORKSPACE names it.")
    return None


def _files(paths: list[Path]) -> list[Path]:
    """Every workflow file under the paths.

    Raises:
        InvalidInput: A path does not exist or holds no workflow.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_file():
            found.append(path)
            continue
        below = sorted(file for file in path.rglob("*.yaml") if file.parent.name == "workflows")
        if not below:
            raise InvalidInput(
                f"There is no workflow at {path}.",
                hint=f"Name a file, or a folder with workflows/*.yaml in it, such as {SHIPPED / 'identity'}.",
            )
        found.extend(below)
    return found
