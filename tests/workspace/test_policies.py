"""The policies of a workspace: checked with everything else, and held against its golden tables."""

from pathlib import Path

import pytest

from regie.core.errors import DefinitionError
from regie.core.release_changes import changes_between
from regie.domains import load_catalogue
from regie.policy.cedar import policies_of, shipped
from regie.workspace.loading import load_release

TENANT = "tenant: acme\ntitle: Acme\ndomains: [identity]\nconnections: {}\nroles: { desk: [desk@example.com] }\n"
FORBID = '@id("no_starts") forbid (principal, action == Action::"start", resource);\n'
LINE = "  - { who: %s, action: start, tenant: acme, workflow: identity.offboard_employee, expect: %s }\n"


def workspace(folder: Path, **files: str) -> Path:
    for place, text in {"tenants/acme.yaml": TENANT, **files}.items():
        file = folder / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def faults(folder: Path) -> list[tuple[str, int, str]]:
    with pytest.raises(DefinitionError) as caught:
        load_release(folder, load_catalogue())
    return [(Path(each.file).name, each.line, each.message) for each in caught.value.faults]


def test_a_workspace_adds_to_ours_and_replaces_all_but_one(tmp_path: Path) -> None:
    plain = load_release(workspace(tmp_path), load_catalogue())
    assert plain.policies == dict(shipped())
    more = workspace(tmp_path, **{"policies/mine.cedar": FORBID, "policies/people.cedar": "// nobody does anything\n"})
    release = load_release(more, load_catalogue())
    known = {each.id for each in policies_of(release).known.values()}
    assert {"no_starts", "four_eyes"} <= known
    assert "own_runs" not in known
    assert changes_between(plain, release) == ["new      policies mine.cedar", "changed  policies people.cedar"]


def test_what_always_holds_is_not_replaced(tmp_path: Path) -> None:
    [(file, line, message)] = faults(workspace(tmp_path, **{"policies/always.cedar": "// nothing\n"}))
    assert (file, line) == ("always.cedar", 1)
    assert "not replaced" in message


def test_faults_of_policies_are_told_with_those_of_everything_else(tmp_path: Path) -> None:
    folder = workspace(tmp_path, **{"policies/mine.cedar": FORBID + "permit (", "tenants/bad.yaml": "tenant: bad\n"})
    found = faults(folder)
    assert ("mine.cedar", 2) in {(file, line) for file, line, _ in found}
    assert "bad.yaml" in {file for file, *_ in found}


def test_policies_that_decide_otherwise_than_the_table_says_are_not_loaded(tmp_path: Path) -> None:
    table = "decisions:\n" + LINE % ("operator", "allow") + LINE % ("person:desk@example.com", "deny")
    folder = workspace(tmp_path, **{"policies/decisions.yaml": table})
    load_release(folder, load_catalogue())
    [(file, line, message)] = faults(workspace(folder, **{"policies/mine.cedar": FORBID}))
    assert (file, line) == ("decisions.yaml", 2)
    assert message.startswith("operator start identity.offboard_employee: expected allow, found deny by no_starts")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (LINE % ("nobody", "allow"), "write person:ADDRESS"),
        (LINE % ("step:close", "allow"), "never asks to start"),
        (LINE.replace("acme", "other") % ("operator", "allow"), "no tenant"),
        (LINE.replace("expect: %s", "expect: %s, colour: red") % ("operator", "allow"), "colour"),
    ],
)
def test_a_line_that_asks_nothing_is_a_fault(tmp_path: Path, line: str, message: str) -> None:
    found = faults(workspace(tmp_path, **{"policies/decisions.yaml": f"decisions:\n{line}"}))
    assert any(message in each for *_, each in found), found
