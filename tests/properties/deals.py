"""What there is in a shop of plans: plans, subscriptions, credits, and how months are counted."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TypeAlias

Line: TypeAlias = tuple[str, Decimal, datetime]

ZERO = Decimal(0)
#: The smallest time there is.
TICK = timedelta(microseconds=1)
FOREVER = datetime.max.replace(tzinfo=UTC)
MONTHS = {"month": 1, "year": 12}
BURNING = ("purchase", "bonus", "refund", "trial", "rollover", "allowance")
OF_A_PLAN = ("trial", "rollover", "allowance")
#: What may be said of a subscription, by its state.
SAID = {
    "trialing": {"active", "canceled", "expired"},
    "active": {"active", "past_due", "unpaid", "paused", "canceled", "expired"},
    "past_due": {"active", "past_due", "unpaid", "paused", "canceled", "expired"},
    "unpaid": {"active", "past_due", "unpaid", "canceled", "expired"},
    "paused": {"active", "paused", "canceled", "expired"},
}


class Refused(Exception):
    """The act cannot be; nothing of it stays. The one argument is the SQLSTATE."""


def month_end(anchor: datetime, count: int) -> datetime:
    """So many months after the anchor; on its day, or on the last one of a shorter month."""
    years, month = divmod(anchor.month - 1 + count, 12)
    last = calendar.monthrange(anchor.year + years, month + 1)[1]
    return anchor.replace(year=anchor.year + years, month=month + 1, day=min(anchor.day, last))


@dataclass(frozen=True)
class Plan:
    """What a plan promises a month and a unit; a rollover of None knows no limit."""

    name: str
    allowance: Decimal = ZERO
    rollover: Decimal | None = ZERO
    rank: int = 0
    trial_days: int = 0
    replaces: bool = False
    grace: timedelta = timedelta(days=7)
    prorates: bool = False


@dataclass
class Deal:
    """One subscription: a plan for so many, paid by the month or the year."""

    plan: Plan
    by_default: bool = False
    interval: str = "month"
    quantity: int = 1
    own: Decimal | None = None
    status: str = "active"
    #: how many months after the anchor its first interval began
    first: int = 0
    trial_end: datetime | None = None
    is_paid: bool = False
    grace_end: datetime | None = None
    cancel_at: datetime | None = None
    change_at: datetime | None = None
    then: Deal | None = None
    #: the interval that it ended in
    lasted: tuple[datetime, datetime] | None = None

    @property
    def allowance(self) -> Decimal:
        """Credits a month of all its units."""
        return (self.plan.allowance if self.own is None else self.own) * self.quantity

    @property
    def granted(self) -> Decimal:
        """What it grants a month in the state that it is in."""
        return self.allowance if self.status in ("trialing", "active") else ZERO

    @property
    def limit(self) -> Decimal | None:
        """How much of it may roll over."""
        return None if self.plan.rollover is None else self.plan.rollover * self.quantity


@dataclass
class Grant:
    """Credits with an end; its number says how new it is."""

    number: int
    source: str
    free: Decimal
    end: datetime


@dataclass
class Hold:
    """Credits that are reserved until then, and where they came from; closed without any."""

    parts: list[tuple[Grant, Decimal]]
    until: datetime
