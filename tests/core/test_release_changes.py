from __future__ import annotations

from regie.core.definition import Definition, Kind, Step
from regie.core.release import Release
from regie.core.release_changes import changes_between
from regie.core.tenant import Domain, Tenant


def release(*titles: str, blocks: tuple[str, ...] = (), **tenants: str) -> Release:
    definitions = {
        f"hr.{title}": Definition(
            workflow=f"hr.{title}",
            title=title,
            owner="team:hr",
            steps=(Step(place="0", kind=Kind.END, line=1, column=1),),
        )
        for title in titles
    }
    return Release(
        definitions=definitions,
        domains={"hr": Domain(domain="hr", title="HR", owner="team:hr", classification="personal")},
        tenants={
            slug: Tenant(tenant=slug, title=title, domains=("hr",), connections={}) for slug, title in tenants.items()
        },
        blocks={"hr.look": blocks},
    )


def test_the_same_release_differs_in_nothing() -> None:
    assert changes_between(release("a", acme="Acme"), release("a", acme="Acme")) == []


def test_each_difference_is_one_line() -> None:
    before, after = release("a", "b", acme="Acme", old="Old"), release("b", "c", blocks=("x.y",), acme="ACME", new="N")
    assert changes_between(before, after) == [
        "gone     workflow hr.a",
        "new      workflow hr.c",
        "changed  tenant acme: title",
        "new      tenant new",
        "gone     tenant old",
        "changed  blocks: hr.look",
    ]


def test_against_nothing_all_is_new() -> None:
    assert changes_between(None, release("a", acme="Acme")) == [
        "new      workflow hr.a",
        "new      domain hr",
        "new      tenant acme",
    ]
