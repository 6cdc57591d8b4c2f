"""Writes the reference pages that follow from the code. `make docs` runs it; a test runs it with `--check`.

    python docs/generate.py [--check] [FOLDER]

With `--check` nothing is written; the exit code is 1 when a page is not what it would be.
"""  # noqa: INP001  a script beside the pages that it writes, imported by nobody

from __future__ import annotations

import builtins
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel, JsonValue
from pydantic.fields import FieldInfo

from regie import connectors
from regie.cli import EXIT_DENIED, EXIT_FAILED, EXIT_UNAVAILABLE, EXIT_WRONG_INPUT
from regie.cli.program import program
from regie.core import capabilities, errors
from regie.core.audit import Event
from regie.core.block import Block
from regie.core.capability import Capability, Record
from regie.core.errors import RegieError
from regie.discovery import members
from regie.domains import load_catalogue
from regie.kit.connector import provided
from regie.kit.discovery import connectors_in
from regie.settings import Settings
from regie.telemetry import metrics

REFERENCE = Path(__file__).parent / "reference"

REMEDIES: Mapping[str, str] = {
    "DefinitionError": "Mend the file at the line and column named; `regie validate` shows all faults at once.",
    "InvalidInput": "Hand in what the message asks for: the field, the file, the setting.",
    "Denied": "Ask somebody who may, or have the grant, the role or the approval changed.",
    "EvaluationError": "Mend the expression, or guard it: `default`, `is defined`, an `if`.",
    "Terminal": "Read the message; start the run again when the cause is gone.",
    "Refused": "Read status and code; the vendor's documentation says what they mean.",
    "NotFound": "Check the name or id in the ticket or the input, and start again.",
    "AuthFailed": "Renew the credential with `regie secret put`, or give the account the permissions of the manifest.",
    "WorldMoved": "Compare both changes in the message; start again, so that people approve what is needed now.",
    "LimitReached": "See whether the run does what it should; then repeat it from that step with `regie rerun`.",
    "NotVerified": "Look at the target in the vendor's system; start again, since a run looks before it writes.",
    "ChildFailed": "Look at the run that the message names: its page says why; handle it with `on-error`.",
    "Retryable": "Nothing, as long as attempts are left; then find out what did not answer.",
    "Throttled": "Nothing; if it stays, spread the runs or ask the vendor for more.",
    "BudgetSpent": "Nothing: the step comes again when there is room. `regie quotas` shows the budgets.",
    "Unavailable": "Nothing, as long as attempts are left; else see whether vendor, gateway and database answer.",
    "TimedOut": "Nothing, as long as attempts are left; else give the step a longer `timeout`.",
    "OutcomeUnknown": "Look at the target in the vendor's system, then decide; nothing repeats it by itself.",
    "AuditBroken": "Find out why the database does not take the leaf; nothing happens until it does.",
    "FencedOut": "Nothing: another worker has the run.",
}
"""What a person can do about each error that is raised as such."""

TYPES: Mapping[Any, str] = {str: "text", int: "integer", float: "number", bool: "boolean", JsonValue: "any value"}
"""What the types of fields are called; a record keeps its name."""

EVENTS: Mapping[Event, tuple[str, str]] = {
    Event.RELEASE_LOADED: ("A workspace became the release that new runs get.", "`release`"),
    Event.ACCOUNT_ADDED: ("Somebody may sign in.", "`account`: id, roles, groups"),
    Event.ACCOUNT_CHANGED: (
        "The identity provider tells another address, name or groups of somebody than before.",
        "`account`, `before`: id, roles, groups",
    ),
    Event.ACCOUNT_DEACTIVATED: ("Somebody may not sign in any more; their sessions end.", "`account`: id"),
    Event.ACCOUNT_ACTIVATED: ("Somebody may sign in again.", "`account`: id"),
    Event.ACCOUNT_REMOVED: ("An account is forgotten.", "`account`: id"),
    Event.GROUP_CHANGED: (
        "A provisioning service has brought a group, or changed who is in it; numbers of members.",
        "`group`: id, tenant, added, removed",
    ),
    Event.GROUP_REMOVED: ("It has removed a group.", "`group`: id, tenant, added, removed"),
    Event.SESSION_BEGUN: (
        "Somebody has signed in on the pages.",
        "`session`: by (`password`, `identity_provider`), amr",
    ),
    Event.TOKEN_MADE: ("A program may use the API.", "`token`: id, name, tenant, domain, acts, workflows"),
    Event.TOKEN_REVOKED: ("A token counts no more.", "`token`: id, name, tenant, domain, acts, workflows"),
    Event.AUTHENTICATOR_ADDED: (
        "Somebody can confirm with an authenticator of theirs from now on.",
        "`authenticator`: id, public_key_sha256",
    ),
    Event.AUTHENTICATOR_REMOVED: ("They cannot any more.", "`authenticator`: id, public_key_sha256"),
    Event.TRIGGER_ACCEPTED: ("Somebody or something asked for a run, and it starts.", "`trigger`"),
    Event.TRIGGER_REPEATED: ("The same trigger came again; nothing new starts.", "`trigger`"),
    Event.TRIGGER_REFUSED: (
        "A delivery starts nothing: not genuine, not readable, or no workflow fits.",
        (
            "`connection`, `reason` (`not_genuine`, `unreadable`, `no_workflow`), `delivery`, `trigger`; "
            "`deliveries`: how many were not genuine since the leaf before, which is a minute ago or more"
        ),
    ),
    Event.RUN_STARTED: (
        "A run exists, pinned to a release; `parent` only of a child, `rerun` only of one that repeats another.",
        (
            "`workflow`: name, def_sha256; `release`, `dry`; `parent`: run, place; `rerun`: run, first_run, from_step, "
            "kept, kept_sha256; `policy` when a person started it"
        ),
    ),
    Event.RUN_CANCELLED: (
        "Somebody cancelled a run, or its parent, whose own leaf says who: it begins nothing new.",
        "`parent`: run; `told` when a ticket was closed: person (the ticket system's id of them), delivery, event",
    ),
    Event.RUN_PAUSED: (
        "Somebody holds a run up, or its parent, whose own leaf says who: nothing new begins until it is resumed.",
        "`parent`: run",
    ),
    Event.RUN_RESUMED: ("Somebody lets a paused run go on, or its parent, with which it was paused.", "`parent`: run"),
    Event.RUN_REPEATED: ("A new run repeats this one from some step on.", "`rerun`: run (the new one), from_step"),
    Event.RUN_WOKEN: ("A run was made ready by a person, or by a worker that found nothing would wake it.", ""),
    Event.TRIGGER_MISSED: (
        "Scheduled times passed while nobody was there; the schedule says whether one run makes up for them.",
        "`schedule`: workflow, since, until, policy",
    ),
    Event.POLL_FAILED: (
        "A poll got no answer that it could use; told once until it is well again.",
        "`poll`, `failure`",
    ),
    Event.POLL_RECOVERED: ("A poll that failed has an answer again.", "`poll`: workflow, uses"),
    Event.RUN_SET_ASIDE: ("Nobody can go on with the run as it is stored: a person must mend it.", "`failure`"),
    Event.RUN_CLOSED: ("A run is over; it is its last leaf.", "`status`, `count` of its leaves, this one included"),
    Event.EVENT_RECEIVED: (
        "A program told that something has happened; outside any run.",
        "`outside_event`: id, name, data_sha256",
    ),
    Event.EVENT_REPEATED: ("It told so again; nothing follows.", "`outside_event`: id, name, data_sha256"),
    Event.EVENT_PUBLISHED: (
        "A run told the other runs of its tenant and domain that something has happened; outside any run.",
        "`outside_event`: id, name, data_sha256; `publisher`: run, place",
    ),
    Event.EVENT_SET_ASIDE: (
        "What is kept of an event cannot be opened, so it reaches nobody; let it be told again under another id.",
        "`outside_event`: id, name",
    ),
    Event.STEP_FINISHED: (
        "A step is done.",
        "`step`: place, uses, attempt, outcome; `input_sha256`, `output_sha256`; `child`: run, workflow",
    ),
    Event.STEP_FAILED: ("A step failed for good.", "`step`, `input_sha256`, `failure` (the error's class)"),
    Event.STEP_RETRIED: ("A try failed and another one follows.", "`step`, `input_sha256`, `failure`"),
    Event.APPROVAL_REQUESTED: (
        "The first rung is asked to agree to a plan.",
        "`approval`: id, rung, asked (how many), plan_sha256",
    ),
    Event.APPROVAL_ESCALATED: ("The next rung is asked as well.", "`approval`: id, rung, asked"),
    Event.APPROVAL_REMINDED: ("Those who were asked are reminded.", "`approval`: id, rung"),
    Event.APPROVAL_GRANTED: (
        "Somebody said yes; `mfa_age_s` after a second factor, with `assertion_sha256` if they have signed it.",
        "`approval`: id, place, approver, decision, plan_sha256; `mfa_age_s`, `assertion_sha256`",
    ),
    Event.APPROVAL_REFUSED: (
        "Somebody said no.",
        "`approval`: id, place, approver, decision, plan_sha256; `mfa_age_s`",
    ),
    Event.APPROVAL_EXPIRED: ("Nobody answered in time; that is a no.", "`approval`: id, decision"),
    Event.APPROVAL_WITHDRAWN: (
        "The run was cancelled or stopped as a whole; nobody needs to answer any more.",
        "`approval`: id, decision",
    ),
    Event.EFFECT_INTENDED: (
        "A change is about to be made; written before the vendor is called.",
        (
            "`capability`, `connection`, `place`, `attempt_key`, `effect_key`, `target_sha256`, `change_sha256`, "
            "`approval`: id; `policy`: set_sha256, determining"
        ),
    ),
    Event.EFFECT_RECEIVED: (
        "A change was made and read back.",
        "as intended, and the vendor's `request_id` and `remote_id`",
    ),
    Event.EFFECT_UNCHANGED: ("Nothing was needed.", "as intended, without `change_sha256`"),
    Event.EFFECT_REFUSED: (
        "A change was not made: the vendor said no, the world moved since the approval, or the run's limit is reached.",
        "as intended, and `reason` (the error's class, `world_moved`, or `limit_reached`)",
    ),
    Event.EFFECT_LOST: ("Nobody can tell whether a change was made; a person must settle it.", "as intended"),
    Event.CAPABILITY_DENIED: (
        "A step asked for what it may not do, or without the approval it needs.",
        (
            "`capability`, `place`, `reason` (the policy's id, `not_approved` ...), `policy`; `asked_run` for another "
            "domain's worker"
        ),
    ),
    Event.REQUEST_DENIED: (
        "Somebody asked for something that the policies deny; looking is not written down.",
        "`action`, `reason` (the policy's id, `no_policy_allows_it` or `policy_failed`), `policy`",
    ),
    Event.RUN_EMPTIED: (
        "The inputs and outputs of a run are taken away, since its domain keeps them no longer.",
        "`closed_run`",
    ),
    Event.INPUTS_VIEWED: (
        "Somebody looked at the inputs and outputs of a run whose domain holds personal or financial data.",
        "`policy`, `closed_run` when it was over",
    ),
    Event.SUBJECT_ERASED: (
        "Nobody can tell any more whom entries of this log mean by a commitment.",
        "`subject`: the commitment",
    ),
    Event.DATA_KEY_ROTATED: (
        "What is sealed for this tenant in this domain from here on is sealed under a new data key.",
        "`data_key`: its version",
    ),
    Event.LOG_KEY_ROTATED: (
        "The notary signs with a new key from here on; in the anchor log.",
        "`old_vkey`, `new_vkey`, `from_size`",
    ),
}
"""What each event says, and which fields its leaf has beside those that all have."""


def main() -> int:
    """Write or check every page; the exit code."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--check"]
    folder = Path(arguments[0]) if arguments else REFERENCE
    stale = []
    for name, write in PAGES.items():
        text = write()
        file = folder / name
        if "--check" not in sys.argv:
            file.write_text(text, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(str(file))
    for each in stale:
        print(f"{each} is out of date. Run: make docs")  # noqa: T201  what a script has to say
    return 1 if stale else 0


def page(title: str, source: str, *parts: str) -> str:
    """One page."""
    note = f"<!-- Generated by docs/generate.py from {source}. Change that, then: make docs -->"
    return "\n\n".join([note, f"# {title}", *(part.strip("\n") for part in parts if part)]) + "\n"


def table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table; nothing for no rows."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines = [heads, tuple("---" for _ in heads), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if cells else ""


def one_line(text: str | None) -> str:
    """A docstring's text before its sections, on one line."""
    before = inspect.cleandoc(text or "").split("\n\nArgs:")[0].split("\n\nAttributes:")[0]
    return " ".join(before.split())


def kind(annotation: Any) -> str:
    """A type in words."""
    arguments = typing.get_args(annotation)
    match typing.get_origin(annotation):
        case typing.Annotated:
            words = kind(arguments[0])
        case builtins.list | builtins.tuple:
            words = f"list of {kind(arguments[0])}"
        case builtins.dict:
            words = f"{kind(arguments[1])} by name"
        case typing.Literal:
            words = " or ".join(f"`{value}`" for value in arguments)
        case typing.Union | types.UnionType:
            words = " or ".join(kind(each) for each in arguments if each is not type(None))
        case _:
            words = TYPES.get(annotation) or str(getattr(annotation, "__name__", annotation))
    return words


def default_of(field: FieldInfo) -> str:
    """What holds when nothing is said."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "empty" if value in ("", [], (), {}, None) else f"`{str(value).lower() if value is True else value}`"


def fields(record: type[BaseModel]) -> list[tuple[str, ...]]:
    """A record's fields: name, type, default."""
    return [(f"`{name}`", kind(each.annotation), default_of(each)) for name, each in record.model_fields.items()]


def within(record: type[BaseModel]) -> list[type[Record]]:
    """The records that a record holds, however deep, in the order met."""
    found: list[type[Record]] = []

    def walk(annotation: Any) -> None:
        if isinstance(annotation, type) and issubclass(annotation, Record):
            if annotation not in found:
                found.append(annotation)
                for each in annotation.model_fields.values():
                    walk(each.annotation)
            return
        for argument in typing.get_args(annotation):
            walk(argument)

    for each in record.model_fields.values():
        walk(each.annotation)
    return found


def shape(title: str, record: type[BaseModel]) -> str:
    """A record as a table, and those inside it."""
    parts = [f"{title}:\n\n" + (table(("field", "type", "default"), fields(record)) or "nothing")]
    parts += [
        f"`{inner.__name__}`: {one_line(inner.__doc__)}\n\n" + table(("field", "type", "default"), fields(inner))
        for inner in within(record)
    ]
    return "\n\n".join(parts)


def blocks_page() -> str:
    """Every block."""
    catalogue = load_catalogue()
    rows = [(f"[`{name}`](#{anchor(name)})", each.effect.value, each.summary) for name, each in catalogue.items()]
    return page(
        "Blocks",
        "the functions in src/regie/blocks",
        "What a step can use. `regie blocks` and `regie blocks NAME` show the same.",
        table(("block", "effect", "what it does"), rows),
        *(block_part(each) for each in catalogue.values()),
    )


def block_part(block: Block) -> str:
    """One block."""
    needs = ", ".join(f"[`{need.name}`](capabilities.md#{anchor(need.name)})" for need in block.needs)
    attempts = (
        f"Attempts: {block.retry.attempts}, pauses from {block.retry.first_s:g} to {block.retry.most_s:g} s. "
        f"One attempt: at most {block.timeout_s:g} s."
        if block.function is not None
        else "The interpreter itself carries it out."
    )
    return "\n\n".join(
        part
        for part in (
            f"## {block.name}",
            f"{block.summary} {block.about}".strip(),
            f"Effect: {block.effect.value}. Needs: {needs or 'nothing outside'}. {attempts}",
            shape("Arguments", block.arguments),
            shape("Gives", block.gives),
            f"```yaml\n{block.example}\n```",
        )
    )


def anchor(heading: str) -> str:
    """The address of a heading within its page, as GitHub makes it."""
    kept = [letter for letter in heading.lower() if letter.isalnum() or letter in "-_ "]
    return "".join(kept).replace(" ", "-")


def capabilities_page() -> str:
    """Every capability, with who provides and who uses it."""
    found = {each.name: each for each in members(capabilities, Capability)}
    who = connectors_in(connectors)
    using = {
        name: [block.name for block in load_catalogue().values() if name in {need.name for need in block.needs}]
        for name in found
    }
    parts = []
    for name, each in sorted(found.items()):
        provisions = [
            (connector.manifest.title, entry)
            for connector in who.values()
            for entry in provided(connector.connector).values()
            if entry.capability.name == name
        ]
        providers = [f"{title} (`{', '.join(sorted(entry.permissions))}`)" for title, entry in provisions]
        undoing = sorted({entry.undo.name for _, entry in provisions if entry.undo is not None})
        undone = "".join(f" Undone by: [`{other}`](#{anchor(other)})." for other in undoing)
        used = ", ".join(f"[`{block}`](blocks.md#{anchor(block)})" for block in using[name])
        parts.append(
            f"## {name}\n\n{each.summary}\n\nEffect: {each.effect.value}. Provided by: "
            f"{'; '.join(providers) or 'no connector'}. Used by: {used or 'no block'}.{undone}\n\n"
            + shape("Wants", each.wants)
            + "\n\n"
            + shape("Gives", each.gives)
        )
    return page(
        "Capabilities",
        "src/regie/core/capabilities and the connectors",
        "What can be done for a tenant. A block needs capabilities, a connector provides them. In brackets: what the "
        "vendor's account must be allowed. Undone by: what the connectors say takes it back; a workflow asks for it "
        "with `undo`.",
        *parts,
    )


def errors_page() -> str:
    """Every error of the vocabulary."""
    own = [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, RegieError) and each is not RegieError
    ]
    lacking = sorted({each.__name__ for each in own} ^ REMEDIES.keys())
    if lacking:
        raise SystemExit(f"docs/generate.py: REMEDIES and core/errors.py differ in {', '.join(lacking)}.")
    rows = [
        (
            f"`{each.__name__}`",
            f"`{each.__mro__[1].__name__}`" if each.__mro__[1] is not RegieError else "",
            one_line(each.__doc__),
            "yes" if each.may_retry else "no",
            REMEDIES[each.__name__],
        )
        for each in own
    ]
    codes = [
        ("0", "good"),
        (str(EXIT_FAILED), "it was tried and did not work; of `start --wait`: the run failed or was cancelled"),
        (str(EXIT_WRONG_INPUT), "what was given is wrong: `DefinitionError`, `InvalidInput`"),
        (str(EXIT_DENIED), "not allowed: `Denied`, `AuthFailed`; of `start --wait`: the run was refused"),
        (str(EXIT_UNAVAILABLE), "something does not answer, later may work: `Retryable` and its kinds"),
    ]
    return page(
        "Errors",
        "src/regie/core/errors.py",
        "The class decides what happens next, never the message. It is `error.kind` in `on-error`, the `failure` of a "
        "leaf, and the kind in the API's answers. A kind counts as its parent wherever the parent is named.",
        table(("error", "kind of", "means", "tried again", "what you can do"), rows),
        "## Exit codes of the command line",
        table(("code", "means"), codes),
    )


def settings_page() -> str:
    """Every setting."""
    prefix = str(Settings.model_config["env_prefix"])
    rows = [
        (f"`{prefix}{name.upper()}`", default_of(each) if name != "password" else "empty", each.description or "")
        for name, each in Settings.model_fields.items()
    ]
    return page(
        "Settings",
        "src/regie/settings.py",
        "Variables of the environment, read when a process starts. Everything else is in the workspace.",
        table(("variable", "default", "meaning"), rows),
    )


def cli_page() -> str:
    """Every command with its arguments and options."""
    found: Any = typer.main.get_command(program)
    commands = {name: found.get_command(None, name) for name in found.list_commands(None)}
    parts = [part for name, each in commands.items() for part in command_parts(f"regie {name}", each)]
    return page("Commands", "src/regie/cli", "\n\n".join(paragraphs(found.help)), *parts)


def limits_page() -> str:
    """How fast each vendor is asked."""
    parts = []
    for found in connectors_in(connectors).values():
        manifest = found.manifest
        rows = [
            (
                f"`{limit.bucket}`",
                limit.about,
                f"{limit.calls:,} in {limit.per_s:g} s",
                ", ".join(f"`{name}`" for name in limit.by) or "everybody",
                ", ".join(f"`{name}`" for name in limit.per),
                f"{limit.at_once:g} at once, {limit.each_s:.3g} each second",
                f"[{limit.read_on:%Y-%m-%d}]({limit.source})",
            )
            for limit in manifest.limits
        ]
        heads = ("bucket", "what counts", "the vendor allows", "shared by the same", "counted per", "we use", "read")
        parts += [f"## {manifest.title}", table(heads, rows)]
    return page(
        "What vendors allow",
        "src/regie/connectors",
        "How fast each vendor may be asked, as the connectors' manifests say. What a limit may say, and how it is "
        "kept, is in [Quotas and rate budgets](quotas-and-rate-budgets.md).",
        *parts,
    )


def paragraphs(text: str | None) -> list[str]:
    """A help text's paragraphs, each on one line."""
    return [" ".join(part.split()) for part in (text or "").split("\n\n")]


def command_parts(name: str, command: Any) -> list[str]:
    """One command, or each of a group."""
    inner = getattr(command, "commands", {})
    if inner:
        return [part for each, below in inner.items() for part in command_parts(f"{name} {each}", below)]
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    usage = " ".join(
        [name, *(each.name.upper() if each.required else f"[{each.name.upper()}]" for each in arguments), "[OPTIONS]"]
    )
    rows = [(parameter_name(each), each.help or "", parameter_default(each)) for each in command.params]
    return [
        "\n\n".join(
            part
            for part in (
                f"## {name}",
                f"`{usage}`",
                *paragraphs(command.help),
                table(("argument or option", "meaning", "default"), rows),
            )
            if part
        )
    ]


def parameter_name(parameter: Any) -> str:
    """How a parameter is written."""
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}`"
    return ", ".join(f"`{each}`" for each in (*parameter.opts, *parameter.secondary_opts))


def parameter_default(parameter: Any) -> str:
    """What holds when a parameter is left out."""
    if parameter.required:
        return "required"
    return "" if parameter.default in (None, "", False) else f"`{parameter.default}`"


def events_page() -> str:
    """Every event of the audit log."""
    lacking = sorted({each.name for each in Event} - {each.name for each in EVENTS})
    if lacking:
        raise SystemExit(f"docs/generate.py: EVENTS says nothing about {', '.join(lacking)}.")
    return page(
        "Audit events",
        "src/regie/core/audit.py",
        "What a leaf of the audit log can say. `regie audit show RUN` shows those of a run.",
        "Every leaf has `v`, `event`, `actor` (`type`, `id`), `entry_id`, `nonce`, `at`; where they apply `tenant`, "
        "`domain`, `ticket`, `corr`, and for a run `run`, `run_seq` (from 1) and `run_prev` (hash of the leaf before). "
        "A leaf holds references and digests, never an input, an output or a secret.",
        table(("event", "means", "its own fields"), [(f"`{each.value}`", *EVENTS[each]) for each in Event]),
    )


def metrics_page() -> str:
    """Every metric."""
    rows = [
        (
            f"`{each.name}`",
            each.kind,
            ", ".join(f"`{label}`" for label in each.labels),
            ", ".join(each.processes),
            each.about,
        )
        for each in metrics.DESCRIBED
    ]
    return page(
        "Metrics",
        "src/regie/telemetry/metrics.py",
        "What Prometheus reads at `/metrics` of each process; [watch it](../how-to/watch-it.md) says how. Besides "
        "these each process tells its memory, its processor time and its open files (`process_...`).",
        "A label's values are words of a release, of a process or of HTTP: never an id, an address or a ticket.",
        table(("metric", "kind", "labels", "told by", "means"), rows),
        "The outcome of an attempt is `succeeded`, `failed`, `postponed` (a vendor finishes later), `planned` or "
        "`asked` (the two parts of an approval), or `cut_off`; of a run its final status.",
    )


PAGES: Mapping[str, Callable[[], str]] = {
    "blocks.md": blocks_page,
    "capabilities.md": capabilities_page,
    "errors.md": errors_page,
    "settings.md": settings_page,
    "cli.md": cli_page,
    "audit-events.md": events_page,
    "vendor-limits.md": limits_page,
    "metrics.md": metrics_page,
}
"""Each page and who writes it."""

if __name__ == "__main__":
    sys.exit(main())
