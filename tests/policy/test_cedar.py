"""Policies as they are read and asked: whatever is in doubt is a no."""

from dataclasses import replace

import pytest

from regie.core.errors import DefinitionError, Denied
from regie.policy import people, steps
from regie.policy.cedar import Policies, policies_of, shipped
from regie.policy.people import Asker, RunFacts
from regie.policy.request import Entity, Ref, Request
from regie.policy.steps import StepFacts

from .stage import release

STEP = StepFacts(tenant="acme", domain="identity", workflow="identity.off", place="a", at="a", needs=frozenset({"a.b"}))
ASKED = steps.ask(STEP, "apply", "a.b")
ALLOW = '@id("anything") permit (principal, action, resource);'


def test_nothing_is_allowed_when_no_policy_says_so() -> None:
    decision = Policies({"empty.cedar": "// nothing\n"}).decide(ASKED)
    assert (decision.is_allowed, decision.policies, decision.reason) == (False, (), "no_policy_allows_it")
    assert decision.denied("No policy allows it.").message == "No policy allows it."


def test_a_policy_that_cannot_be_evaluated_is_a_no_even_if_others_allow_it() -> None:
    # The largest number there is, and one more: Cedar goes on as if the forbid were not there.
    text = ALLOW + '@id("broken") forbid (principal, action, resource) when { 9223372036854775807 + 1 == 0 };'
    decision = Policies({"x.cedar": text}).decide(ASKED)
    assert not decision.is_allowed
    assert decision.errors
    assert decision.reason == "policy_failed"
    assert "cannot be evaluated" in decision.denied("").message


@pytest.mark.parametrize(
    "wrong",
    [
        replace(ASKED, context={}),
        replace(ASKED, context={**ASKED.context, "may_plan": "yes"}),
        replace(ASKED, context={**ASKED.context, "more": True}),
        replace(ASKED, action="destroy"),
        replace(ASKED, principal=Entity(Ref("Person", "eva@example.com"))),
        replace(ASKED, principal=Entity(Ref("Step", "x"), {"tenant": "acme"})),
        replace(ASKED, resource=Entity(Ref("Nothing", "x"))),
    ],
)
def test_a_question_that_does_not_fit_the_schema_is_a_no(wrong: Request) -> None:
    decision = Policies({"x.cedar": ALLOW}).decide(wrong)
    assert not decision.is_allowed
    assert decision.errors


def test_a_name_with_anything_in_it_is_a_name() -> None:
    odd = replace(STEP, place='a"; permit(principal,action,resource);//\n\u202e𝕏', needs=frozenset({'"\\', "a.b"}))
    assert Policies(shipped()).decide(steps.ask(odd, "apply", "a.b")).is_allowed
    assert not Policies(shipped()).decide(steps.ask(odd, "apply", '"')).is_allowed


def test_an_address_is_the_same_person_in_any_case() -> None:
    run = RunFacts(tenant="acme", domain="identity", workflow="identity.off", requester="ÉVA@Example.com")
    assert Policies(shipped()).decide(people.see(Asker("éva@example.COM", None), run)).is_allowed


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("// one\n\npermit (principal, action, resource", 3, "no Cedar policy"),
        ("permit (principal, action, resource);", 1, "name of its own"),
        ('@id("Not Like This")\npermit (principal, action, resource);', 1, "name of its own"),
        (ALLOW + '\n@id("x") permit (principal is Nobody, action, resource);', 2, "unrecognized entity type `Nobody`"),
        (ALLOW + '\n@id("x") permit (principal is Step, action, resource) when { principal.age > 1 };', 2, "`age`"),
        (ALLOW + '\n@id("x") permit (principal == ?principal, action, resource);', 2, "slots"),
        (ALLOW + '\n@id("anything") forbid (principal, action, resource);', 2, "is taken"),
        ('@id("x") @because("{who} {whom}") forbid (principal, action, resource);', 1, "no word {whom}"),
        ('@id("x") @hint("{who.name}") forbid (principal, action, resource);', 1, "no word {who.name}"),
        ('@id("x") @hint("{") forbid (principal, action, resource);', 1, "no word"),
    ],
)
def test_faults_are_told_with_their_line(text: str, line: int, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        Policies({"x.cedar": text})
    assert any(each.line == line and message in each.message for each in caught.value.faults), caught.value.faults


def test_semicolons_in_texts_and_comments_end_nothing() -> None:
    text = '// a; b\n@id("one") @because("no; never") forbid (principal, action, resource) // ;\n;\n' + ALLOW
    assert [each.id for each in Policies({"x.cedar": text}).known.values()] == ["one", "anything"]


def test_a_release_without_policies_has_ours_and_one_whose_policies_do_not_parse_has_none() -> None:
    assert policies_of(release()).sha256 == Policies(shipped()).sha256
    assert policies_of(release()) is policies_of(release())
    with pytest.raises(Denied, match="everything is denied"):
        policies_of(release(broken="permit ("))


def test_a_forbid_tells_why_in_the_words_of_the_question() -> None:
    text = ALLOW + '@id("not_now") @because("{who}: no {action} of {capability}.") @hint("Ask {nobody}.") '
    with pytest.raises(DefinitionError):
        Policies({"x.cedar": text + "forbid (principal, action, resource);"})
    text = text.replace("{nobody}", "{asked} at {tenant}")
    denied = Policies({"x.cedar": text + "forbid (principal, action, resource);"}).decide(ASKED).denied("")
    assert (denied.message, denied.hint) == ("Step a of identity.off: no apply of a.b.", "Ask  at acme.")
