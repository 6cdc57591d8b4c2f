"""Which tenant a command is about when it does not say."""

import pytest

from regie.cli.tenants import only_tenant
from regie.core.errors import InvalidInput


def test_the_only_tenant_need_not_be_named() -> None:
    assert only_tenant({"acme"}) == "acme"


@pytest.mark.parametrize(
    ("known", "says", "hint"),
    [
        ((), "There is no tenant", "A tenant is a file"),
        (("umbrella", "acme"), "--tenant", "Known: acme, umbrella"),
    ],
)
def test_none_and_several_are_told_apart(known: tuple[str, ...], says: str, hint: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        only_tenant(known)
    assert hint in str(refused.value.hint)
