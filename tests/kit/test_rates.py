"""Which limit a request counts towards, what it costs, and that a budget made of a limit keeps the limit."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import HttpUrl, JsonValue, ValidationError

from regie import connectors, kit
from regie.kit.discovery import connectors_in
from regie.kit.rates import ELSEWHERE, LATE, LATE_MOST_S, Limit, Method, Outgoing, RateModel

MODELS = Path(kit.__file__).parent / "rate_models"
KNOWN = connectors_in(connectors)
JIRA, GRAPH, SLACK, ACME = (KNOWN[name].manifest for name in ("jira", "graph", "slack", "acme"))


def model(name: str) -> RateModel:
    return RateModel.model_validate(yaml.safe_load((MODELS / f"{name}.yaml").read_text(encoding="utf-8")))


def request(method: Method, path: str, body: JsonValue = None, **query: str) -> Outgoing:
    return Outgoing(
        method, path, {f"${name}" if name in {"select", "top"} else name: v for name, v in query.items()}, body
    )


def paid(
    rates: RateModel, asked: Outgoing, signs_in: str = "", **settings: str
) -> dict[str, tuple[float, tuple[str, ...]]]:
    return {each.limit.bucket: (each.cost, each.of) for each in rates.charges(asked, dict(settings), signs_in)}


def limit(calls: int, per_s: float) -> Limit:
    return Limit(
        bucket="x",
        about="x",
        calls=calls,
        per_s=per_s,
        scope="x",
        by=(),
        source=HttpUrl("https://example.com/limits"),
        read_on=date(2026, 11, 21),
    )


def test_jira_has_three_kinds_of_limits() -> None:
    issue = "/rest/api/3/issue/ITSM-7"
    write = paid(JIRA, request("POST", f"{issue}/comment"), "basic", site="https://a")
    assert write == {
        "burst-post": (1, ("https://a", "/rest/api/3/issue/{issue}/comment")),
        "issue-writes": (1, ("https://a", "itsm-7")),
        "issue-writes-long": (1, ("https://a", "itsm-7")),
    }
    # Reading an issue writes none; making one is a write to none that exists.
    assert paid(JIRA, request("GET", issue), "basic", site="https://a").keys() == {"burst-get"}
    assert paid(JIRA, request("POST", "/rest/api/3/issue"), "basic", site="https://a").keys() == {"burst-post"}
    # Points are for apps only: the whole app's, and the site's.
    points = paid(JIRA, request("GET", issue), "client_credentials", site="https://a")
    assert (points["points-of-app"], points["points-of-site"]) == ((2, ()), (2, ("https://a",)))
    found = paid(
        JIRA, request("GET", "/rest/api/3/search/jql", maxResults="50"), "client_credentials", site="https://a"
    )
    assert found["points-of-app"][0] == 51


@pytest.mark.parametrize(
    ("asked", "units"),
    [
        (request("GET", "/users/ana@example.com"), 1),
        (request("GET", "/users"), 2),
        (request("GET", "/users", select="id"), 1),
        (request("GET", "/groups/g1/members"), 3),
        (request("GET", "/groups/g1/members", select="id", top="10"), 1),
        (request("GET", "/groups/g1/members", top="20"), 3),
        (request("GET", "/groups/g1/transitiveMembers", top="x"), 5),
        (request("GET", "/something/new"), 1),
    ],
)
def test_graph_costs_resource_units(asked: Outgoing, units: float) -> None:
    charged = paid(GRAPH, asked, client_id="app", token_url="https://login/t1")
    assert charged["resource-units"] == (units, ("app", "https://login/t1"))
    assert charged["resource-units-of-app"] == (units, ("app",)), "an app's own limit is shared by all tenants"


def test_graph_counts_writes_apart_for_app_tenant_and_both() -> None:
    charged = paid(GRAPH, request("PATCH", "/users/u1"), client_id="app", token_url="https://login/t1")
    assert {bucket: of for bucket, (_, of) in charged.items() if bucket.startswith("writes")} == {
        "writes": ("app", "https://login/t1"),
        "writes-of-app": ("app",),
        "writes-in-tenant": ("https://login/t1",),
    }


def test_keeper_counts_per_device() -> None:
    [(cost, of)] = paid(model("keeper"), request("POST", "/api/rest/sm/v1/get_secret"), client_id="device-1").values()
    assert (cost, of) == (1, ("device-1",))
    [device] = model("keeper").limits
    assert (device.calls, device.per_s) == (10, 60)
    assert device.at_once == 1


def test_defender_counts_each_endpoint_for_a_minute_and_an_hour() -> None:
    defender = model("defender")
    of_device = paid(defender, request("GET", "/api/machines/d1/vulnerabilities"), client_id="a", token_url="t")
    assert of_device == dict.fromkeys(
        ("device-minute", "device-hour"), (1, ("a", "t", "/api/machines/{device}/vulnerabilities"))
    )
    export = paid(defender, request("GET", "/api/machines/SoftwareVulnerabilitiesExport"), client_id="a", token_url="t")
    assert export.keys() == {"export-minute", "export-hour"}
    calls = {each.bucket: each.calls for each in defender.limits}
    assert (calls["export-minute"], calls["export-hour"], calls["delta-minute"], calls["others-hour"]) == (
        5,
        20,
        30,
        1500,
    )


def test_slack_counts_each_channel() -> None:
    one = paid(SLACK, request("POST", "/chat.postMessage", {"channel": "C1", "text": "x"}), workspace="w", app="a")
    of_app = {"tier-4": (1, ("w", "a", "/chat.postMessage"))}
    assert one == of_app | {"channel": (1, ("w", "C1"))}
    assert paid(SLACK, request("POST", "/chat.postMessage", {"text": "x"}), workspace="w", app="a") == of_app
    assert paid(SLACK, request("GET", "/conversations.history"), workspace="w", app="a") == dict.fromkeys(
        ("tier-3", "tier-4"), (1, ("w", "a", "/conversations.history"))
    )


@pytest.mark.parametrize("name", sorted(file.stem for file in MODELS.glob("*.yaml")))
def test_every_model_is_one(name: str) -> None:
    assert model(name).limits


# A host or a name server of the customer's own has no vendor who limits it.
@pytest.mark.parametrize("name", sorted(name for name in KNOWN if KNOWN[name].manifest.access in {"http", "aws"}))
def test_every_connector_is_bound_by_something(name: str) -> None:
    manifest = KNOWN[name].manifest
    methods: tuple[Method, ...] = ("GET", "POST", "DELETE")
    for endpoint in (*manifest.endpoints, "/somewhere/else"):
        for method in methods:
            assert manifest.charges(Outgoing(method, endpoint, {}, None), {}, manifest.authentication.kind)


def test_what_fits_no_template_counts_together() -> None:
    assert JIRA.endpoint_of("/rest/api/3/new") == (ELSEWHERE, {})
    assert JIRA.endpoint_of("/rest/api/3/issue/A-1/comment/9") == (ELSEWHERE, {})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"endpoints": ("/nowhere",)}, "which is no endpoint"),
        ({"per": ("issue",)}, "which no request has"),
        ({"cost": {"endpoints": {"GET /nowhere": 2}}}, "which is no endpoint"),
        ({"calls": 0}, "greater than 0"),
    ],
)
def test_a_model_that_does_not_fit_together_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        RateModel.model_validate({"limits": [{**limit(5, 1).model_dump(mode="json"), **change}], "endpoints": ["/x"]})


@given(
    calls=st.integers(1, 500),
    per_s=st.sampled_from([1.0, 2.0, 10.0, 30.0, 60.0]),
    pauses=st.lists(st.floats(0, 3), min_size=1, max_size=120),
    delays=st.lists(st.floats(0, 1), min_size=120, max_size=120),
)
def test_a_budget_keeps_its_limit_in_every_window_however_requests_arrive(
    calls: int, per_s: float, pauses: list[float], delays: list[float]
) -> None:
    kept = limit(calls, per_s)
    late_s = min(LATE_MOST_S, per_s * LATE)
    now, level, arrived = 0.0, kept.at_once, list[float]()
    for pause, delay in zip(pauses, delays, strict=False):
        now += pause / kept.each_s
        level = min(kept.at_once, level + kept.each_s * pause / kept.each_s)
        if level >= 1:
            level -= 1
            # Late by less than what is allowed for.
            arrived.append(now + delay * late_s * 0.99)
    arrived.sort()
    for begin in arrived:
        assert sum(begin <= at < begin + per_s for at in arrived) <= calls


def test_an_authority_counts_orders_by_account_and_by_names_and_waives_both_for_renewals() -> None:
    names: dict[str, JsonValue] = {"identifiers": [{"type": "dns", "value": "shop.example.com"}]}
    others: dict[str, JsonValue] = {"identifiers": [{"type": "dns", "value": "www.example.com"}]}
    place = {"directory": "https://acme.example.com/directory", "contact": "certificates@example.com"}
    found = paid(ACME, request("POST", "/acme/new-order", names), "acme_account", **place)
    assert found.keys() == {"all-requests", "orders-of-an-account", "orders-for-the-same-names"}
    other = paid(ACME, request("POST", "/acme/new-order", others), "acme_account", **place)
    assert found["orders-of-an-account"] == other["orders-of-an-account"]
    assert found["orders-for-the-same-names"] != other["orders-for-the-same-names"]
    renewal = request("POST", "/acme/new-order", {**names, "replaces": "aYhb.Gg"})
    assert paid(ACME, renewal, "acme_account", **place).keys() == {"all-requests"}
    assert paid(ACME, request("POST", "/acme/order/1/2"), "acme_account", **place).keys() == {"all-requests"}


def test_where_the_vendor_counts_with_a_bucket_so_do_we() -> None:
    named = next(each for each in ACME.limits if each.bucket == "orders-for-the-same-names")
    assert (named.at_once, named.each_s) == (5.0, 5 / 604800)
