"""People and groups of the imaginary company, as plain frozen records. The world keeps them, Graph shows them."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class Revocation(BaseModel):
    """A revocation that was accepted at `at` and can be read back from `visible_at` on."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    visible_at: datetime


class Person(BaseModel):
    """One account of the directory. `directory_roles` are names; whoever has one is a privileged target."""

    model_config = ConfigDict(frozen=True)

    id: str
    upn: str
    display_name: str
    given_name: str
    surname: str
    job_title: str
    department: str
    manager_id: str | None = None
    office_location: str | None = None
    mobile_phone: str | None = None
    usage_location: str = "NL"
    account_enabled: bool = True
    directory_roles: tuple[str, ...] = ()
    created: datetime
    sessions_valid_from: datetime
    revocations: tuple[Revocation, ...] = ()
    last_sign_in: datetime | None = None

    def sessions_valid_from_at(self, now: datetime) -> datetime:
        """What a reader sees at `now`: revocations count once their delay is over."""
        return max([self.sessions_valid_from, *(each.at for each in self.revocations if each.visible_at <= now)])

    @property
    def has_live_session(self) -> bool:
        """Whether the last sign-in still stands once every accepted revocation has taken effect."""
        settled = max([self.sessions_valid_from, *(each.at for each in self.revocations)])
        return self.last_sign_in is not None and self.last_sign_in > settled


class Group(BaseModel):
    """One group. `membership_rule` makes it dynamic: the directory alone decides who is in it."""

    model_config = ConfigDict(frozen=True)

    id: str
    display_name: str
    description: str
    mail_nickname: str
    unified: bool = False
    membership_rule: str | None = None
    role_assignable: bool = False
    members: tuple[str, ...] = ()
