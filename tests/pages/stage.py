"""The stage of the web's tests, which the pages stand on too."""

from ..web.stage import (  # noqa: TID252  tests are no installed package, so there is no absolute name
    ANA,
    AS_OPERATOR,
    BEN,
    CHANGE,
    LOCAL,
    OFFBOARD,
    OLGA,
    OPERATOR,
    PASSWORD,
    PLAN,
    RIK,
    SAM,
    TOKEN,
    FakeGateway,
    Stage,
    make_release,
)

__all__ = [
    "ANA",
    "AS_OPERATOR",
    "BEN",
    "CHANGE",
    "LOCAL",
    "OFFBOARD",
    "OLGA",
    "OPERATOR",
    "PASSWORD",
    "PLAN",
    "RIK",
    "SAM",
    "TOKEN",
    "FakeGateway",
    "Stage",
    "make_release",
]
