"""A customer of a shop of plans: what the promises say, in a few lines a rule.

A Customer is always on time: whoever asks first brings it to that moment, step by step. Nothing
is stored late, nothing is cached, and nothing here knows the database.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from tests.properties.deals import (
    FOREVER,
    MONTHS,
    OF_A_PLAN,
    TICK,
    ZERO,
    Deal,
    Grant,
    Hold,
    Line,
    Plan,
    month_end,
)


@dataclass
class Customer:
    """An account, its grants, its months and its subscription, at one time."""

    plans: Mapping[str, Plan]
    default: Plan | None
    now: datetime
    lines: list[Line] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    count: int = 0
    deal: Deal | None = None
    #: months run, counted from here, and this is the one that does
    runs: bool = False
    anchor: datetime = FOREVER
    month: int = 0
    trial_end: datetime | None = None
    #: what the month has granted: so many credits of it since then
    offers: list[tuple[Decimal, datetime]] = field(default_factory=list)
    #: for how many units it was granted as a whole, where that is not how many there are
    units: int | None = None
    #: whether a plan has replaced another in it
    is_replaced: bool = False
    #: until when one is paid for that was ended early in this month
    paid_until: datetime | None = None
    had_any: bool = False

    def __post_init__(self) -> None:
        if self.default:
            self.deal = Deal(self.default, by_default=True)
            self.begin(self.now)
            self.raise_to(self.deal)

    # The months

    @property
    def end(self) -> datetime:
        """When the month ends."""
        return self.trial_end or month_end(self.anchor, self.month + 1)

    def begin(self, anchor: datetime) -> None:
        """Months are counted anew."""
        self.runs, self.anchor, self.month = True, anchor, 0
        self.trial_end = None
        self.renew()
        while month_end(anchor, self.month + 1) <= self.now:
            self.month += 1

    def renew(self) -> None:
        """A month has granted nothing yet."""
        self.offers, self.units, self.is_replaced, self.paid_until = [], None, False, None

    def paid(self) -> tuple[datetime, datetime]:
        """The interval that is paid for, or the trial."""
        assert self.deal
        if self.trial_end and not self.deal.by_default:
            return self.anchor, self.trial_end
        if self.trial_end:  # the default plan, after a trial that was ended early
            count = -next(n for n in range(1, 5) if month_end(self.trial_end, -n) <= self.now)
            return month_end(self.trial_end, count), month_end(self.trial_end, count + 1)
        length = MONTHS[self.deal.interval]
        count = self.month - (self.month - self.deal.first) % length
        return month_end(self.anchor, count), month_end(self.anchor, count + length)

    # Credits

    def write(self, kind: str, amount: Decimal) -> None:
        if amount:
            self.lines.append((kind, amount, self.now))

    def grant(self, source: str, amount: Decimal, end: datetime) -> None:
        if amount > 0:
            self.write("grant", amount)
            self.put(source, amount, end)

    def put(self, source: str, amount: Decimal, end: datetime) -> None:
        self.count += 1
        self.grants.append(Grant(self.count, source, amount, end))

    def give_back(self, hold: Hold, is_lapse: bool = False) -> None:
        """What was held is free again, or gone with its grant; who lapses with it was in time."""
        for grant, amount in hold.parts:
            if grant.end < self.now or (grant.end == self.now and not is_lapse):
                self.write("expiry", -amount)
            else:
                grant.free += amount
                others = [other for other in self.grants if other is not grant]
                self.grants = sorted([*others, grant], key=lambda g: g.number)
        hold.parts = []

    def expire(self, grants: list[Grant]) -> None:
        self.write("expiry", -sum((gone.free for gone in grants), ZERO))
        for gone in grants:
            gone.free = ZERO
        self.grants = [grant for grant in self.grants if grant.free]

    def of_plan(self) -> list[Grant]:
        return [grant for grant in self.grants if grant.source in OF_A_PLAN]

    @property
    def by_source(self) -> dict[str, Decimal]:
        found: defaultdict[str, Decimal] = defaultdict(Decimal)
        for grant in self.grants:
            found[grant.source] += grant.free
        return dict(found)

    @property
    def balance(self) -> Decimal:
        """What is free and what is held."""
        held = sum((amount for hold in self.holds for _, amount in hold.parts), ZERO)
        return self.free + held

    @property
    def free(self) -> Decimal:
        return sum((grant.free for grant in self.grants), ZERO)

    def worth(self, offers: list[tuple[Decimal, datetime]]) -> int:
        """What offers of this month grant together, in millionths of a credit and ticks."""
        total, covered = 0, ZERO
        for upto, since in sorted(offers, key=lambda offer: offer[1]):
            more = int((max(upto, covered) - covered) * 10**6)
            total += more * ((self.end - since) // TICK)
            covered = max(upto, covered)
        return total

    def raise_to(self, deal: Deal, replaces: bool = False, in_full: Decimal | None = None) -> None:
        """Grant what the deal offers and the month has not granted: up to `in_full` since it began.

        Where that is not said, all of it, unless the month had something for a part of it before.
        """
        start = self.anchor if self.trial_end else month_end(self.anchor, self.month)
        if in_full is None:
            highest = max((upto for upto, _ in self.offers), default=ZERO)
            is_whole = (highest, start) in [*self.offers, (ZERO, start)]
            in_full = deal.granted if is_whole else ZERO
        new = [(min(in_full, deal.granted), start), (deal.granted, self.now)]
        more = self.worth(self.offers + new) - self.worth(self.offers)
        if more and replaces and not self.is_replaced:
            self.expire(self.of_plan())
            more, self.is_replaced = self.worth(new), True
        self.offers += new
        amount = Decimal(more // ((self.end - start) // TICK)) / 10**6
        self.grant("trial" if self.trial_end else "allowance", amount, self.end)

    # Time

    def due(self) -> datetime:
        """When time does something next."""
        times = [grant.end for grant in self.grants]
        times += [hold.until for hold in self.holds if hold.parts]
        times += [self.end] if self.runs else []
        times += [self.deal.grace_end] if self.deal and self.deal.grace_end else []
        return min(times, default=FOREVER)

    def pass_to(self, at: datetime) -> None:
        """Time passes; whatever the clock says, never backwards."""
        at = max(at, self.now)
        while (due := self.due()) <= at:
            self.now = due
            is_end = self.runs and due == self.end
            for hold in self.holds:
                if hold.parts and hold.until == due:
                    self.give_back(hold, is_lapse=True)
            self.turn()
            if is_end:
                self.reset(due)
            for grant in [grant for grant in self.grants if grant.end == due]:
                self.expire([grant])
        self.now = at

    def turn(self) -> None:
        """What this moment makes of the subscription: an end, a change, the end of a trial."""
        deal, trial_end = self.deal, self.trial_end
        if deal is None or deal.status in ("canceled", "expired"):
            return
        is_over = trial_end == self.now and not deal.is_paid
        if deal.cancel_at == self.now:
            self.follow("canceled")
        elif is_over:
            self.follow("expired")
        elif deal.change_at == self.now and deal.then:
            deal.then.status, deal.then.is_paid = deal.status, deal.is_paid
            deal.then.grace_end, deal.then.first = deal.grace_end, self.month + 1
            self.deal = deal.then
        if self.deal and self.deal.status == "trialing" and trial_end == self.now:
            self.deal.status = "active"
        if self.deal and self.deal.grace_end == self.now:
            self.deal.status, self.deal.grace_end = "unpaid", None

    def follow(self, status: str) -> None:
        """The subscription ends with this status; the default plan follows where there is one."""
        assert self.deal
        self.deal.lasted = self.paid()
        if self.deal.status != "trialing" and self.now < self.paid()[1]:
            self.paid_until = max(self.paid_until or self.now, self.paid()[1])
        if self.default is None:
            self.deal.status, self.deal.grace_end, self.deal.cancel_at = status, None, None
            self.deal.then = self.deal.change_at = None
        else:
            self.deal = Deal(self.default, by_default=True)

    def reset(self, due: datetime) -> None:
        """A month ends; what follows says how much goes on, and what comes."""
        own = [g for g in self.grants if g.end == due and g.source in ("rollover", "allowance")]
        if self.deal is None or self.deal.status in ("canceled", "expired"):
            self.runs, self.trial_end = False, None
            self.expire(own)
            return
        if self.trial_end:
            self.anchor, self.month, self.trial_end = due, -1, None
            self.deal.first = 0
        self.month += 1
        self.renew()
        room = self.deal.limit
        gone, rolling = ZERO, list[Decimal]()
        for grant in reversed(own):
            keeps = grant.free if room is None else min(grant.free, room)
            room = None if room is None else room - keeps
            gone += grant.free - keeps
            rolling.append(keeps)
            grant.free = ZERO
        self.grants = [grant for grant in self.grants if grant.free]
        for keeps in reversed(rolling):
            if keeps:
                self.put("rollover", keeps, self.end)
        self.write("expiry", -gone)
        self.raise_to(self.deal)
