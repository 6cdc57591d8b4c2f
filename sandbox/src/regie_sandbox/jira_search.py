"""Jira's search: JQL over an index that learns of new issues late, in pages that only a token leads to."""

from typing import Any

from fastapi import APIRouter, Request

from regie_sandbox.jira_requests import check_query, invalid_payload, listed, number, read_json, site_of, wanted_fields
from regie_sandbox.jira_shapes import Shapes
from regie_sandbox.jql import search
from regie_sandbox.login import seal, unseal
from regie_sandbox.refusals import jira
from regie_sandbox.world import World

# developer.atlassian.com/cloud/jira/platform/rest/v3: issues on a page by default and at most, ids to reconcile.
SEARCH_PAGE = 50
SEARCH_LIMIT = 5_000
RECONCILE_LIMIT = 50

_SEARCH_KEYS = {
    "jql",
    "nextPageToken",
    "maxResults",
    "fields",
    "expand",
    "properties",
    "fieldsByKeys",
    "failFast",
    "reconcileIssues",
}


def add_routes(router: APIRouter, world: World) -> None:
    """Search by body and by query, on Jira's router."""

    @router.post("/search/jql")
    async def search_by_body(request: Request) -> dict[str, Any]:
        body = await read_json(request, _SEARCH_KEYS)
        return _search(world, request, body)

    @router.get("/search/jql")
    async def search_by_query(request: Request) -> dict[str, Any]:
        query: dict[str, Any] = dict(request.query_params)
        check_query(query, _SEARCH_KEYS)
        for name in ("fields", "reconcileIssues", "properties"):
            if name in query:
                query[name] = [each for text in request.query_params.getlist(name) for each in listed(text)]
        if "reconcileIssues" in query:
            query["reconcileIssues"] = [number(each, 0, at_most=10**12) for each in query["reconcileIssues"]]
        return _search(world, request, query)


def _search(world: World, request: Request, asked: dict[str, Any]) -> dict[str, Any]:
    """One page of what the index knows; ids in `reconcileIssues` are looked up past the index."""
    jql, fields = asked.get("jql", ""), asked.get("fields", [])
    known_ids = asked.get("reconcileIssues", [])
    if not isinstance(jql, str) or not isinstance(fields, list) or not isinstance(known_ids, list):
        raise invalid_payload()
    if len(known_ids) > RECONCILE_LIMIT or not all(isinstance(each, int) for each in known_ids):
        raise invalid_payload()
    size = number(asked.get("maxResults"), SEARCH_PAGE, at_most=SEARCH_LIMIT)
    now = world.clock()
    indexed = [each for each in world.tickets.values() if each.indexed_at <= now or int(each.id) in known_ids]
    found = search(jql, indexed)
    start = 0
    token = asked.get("nextPageToken")
    if token is not None:
        content = unseal(world.signing_key, token) if isinstance(token, str) else None
        if content is None or content.get("jql") != jql:
            raise jira(400, "The nextPageToken is invalid or has expired.")
        ids = [each.id for each in found]
        start = ids.index(content["after"]) + 1 if content["after"] in ids else content["start"]
    page = found[start : start + size]
    shapes = Shapes(world, site_of(request))
    wanted = wanted_fields([str(each) for each in fields], default_all=False) - {"id"}
    issues = []
    for each in page:
        shown = shapes.issue(each, wanted)
        if not fields:
            shown = {"id": shown["id"]}
        elif not wanted:
            shown.pop("fields")
        issues.append(shown)
    is_last = start + size >= len(found) or not page
    answer: dict[str, Any] = {"issues": issues, "isLast": is_last}
    if not is_last:
        answer["nextPageToken"] = seal(world.signing_key, {"jql": jql, "after": page[-1].id, "start": start + size})
    return answer
