"""The dials of the imaginary world: limits, delays and lifetimes. Every other module asks here for a number.

The defaults are the vendors' own figures, except the delays, which are short enough to wait for in a demonstration.
The control API (`/sandbox/rules`) turns them while the world runs; a restart brings the defaults back.
"""

import sys

from pydantic import BaseModel, ConfigDict, Field


class Window(BaseModel):
    """At most `limit` units within any `seconds`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: int = Field(gt=0)
    seconds: float = Field(gt=0)


class Rules(BaseModel):
    """How strict, how slow and how forgetful the world is.

    Sources, read in November 2026: developer.atlassian.com/cloud/jira/platform/rate-limiting (burst, writes to one
    issue), developer.atlassian.com/cloud/jira/platform/webhooks (five retries), learn.microsoft.com/graph/
    throttling-limits (identity and access: the budget of a tenant with fewer than 50 users), learn.microsoft.com/
    entra/identity-platform (a client-credentials token lives 3,599 seconds), docs.slack.dev/apis/web-api/rate-limits (a
    method of tier 3 or 4, one message in a second to a channel), docs.slack.dev/interactivity (3 seconds to answer).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    jira_index_delay_seconds: float = Field(default=2.0, ge=0)
    jira_issue_writes: tuple[Window, ...] = (Window(limit=20, seconds=2), Window(limit=100, seconds=30))
    jira_burst_per_second: dict[str, int] = {"GET": 100, "POST": 100, "PUT": 50, "DELETE": 50}
    webhook_retries: int = Field(default=5, ge=0)
    webhook_retry_seconds: float = Field(default=1.0, ge=0)
    webhook_timeout_seconds: float = Field(default=20.0, gt=0)
    graph_resource_units: Window = Window(limit=3500, seconds=10)
    graph_writes: Window = Window(limit=3000, seconds=150)
    graph_revoke_delay_seconds: float = Field(default=0.5, ge=0)
    slack_tier_calls_per_minute: dict[int, int] = {3: 50, 4: 100}
    slack_channel: Window = Window(limit=1, seconds=1)
    slack_history_delay_seconds: float = Field(default=0.0, ge=0)
    slack_answer_seconds: float = Field(default=3.0, gt=0)
    token_lifetime_seconds: int = Field(default=3599, gt=0)
    graph_roles: tuple[str, ...] | None = None
    """The application permissions that tokens get from now on; those of the app's registration when nothing is said."""
    jira_hidden_addresses: tuple[str, ...] = ()
    """Who hides their address in their Atlassian profile: Jira tells others `null` then."""
    jira_scopes: tuple[str, ...] | None = None
    """The scopes of the API token; every one when nothing is said, as of a token that was made without scopes."""

    def burst(self, method: str) -> Window:
        """How often one endpoint may be called with this method; one that is not listed is not limited."""
        return Window(limit=self.jira_burst_per_second.get(method, sys.maxsize), seconds=1)

    def slack_tier(self, tier: int) -> Window:
        """How often one method of a tier may be called by one app in one workspace."""
        return Window(limit=self.slack_tier_calls_per_minute[tier], seconds=60)
