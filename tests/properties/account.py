"""One account of the model: what it holds, and what time does to it.

Written from the contract, sharing nothing with sql/. Nothing is cached: the balance is the last
row, what is held is the sum of the open holds, and settling looks for the earliest due event
until none is left.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, TypeAlias

Part: TypeAlias = "tuple[Grant | Debt, Decimal]"

FOREVER = datetime.max.replace(tzinfo=UTC)
ZERO = Decimal(0)
RANK = {"purchase": 1, "bonus": 2, "referral": 2, "transfer": 2, "refund": 3, "trial": 4}
RANK |= {"rollover": 5, "allowance": 6}


@dataclass(eq=False)
class Grant:
    source: str
    amount: Decimal
    free: Decimal
    effective_at: datetime
    expires_at: datetime
    grant_id: int
    bought_at: datetime
    priority: int = 0
    is_pending: bool = False
    is_moved: bool = False
    revoked: Decimal = ZERO
    unrecovered: Decimal = ZERO
    moved: Decimal = ZERO
    expired: Decimal = ZERO
    root: Grant | None = None  # what it was first part of

    @property
    def revocable(self) -> Decimal:
        return self.amount - self.revoked - self.moved

    def expire(self, unspent: Decimal) -> None:
        self.expired = min(self.expired + unspent, self.revocable)


@dataclass(eq=False)
class Debt:
    unpaid: Decimal
    paid_by: list[tuple[Grant, Decimal, datetime]] = field(default_factory=list)


@dataclass(eq=False)
class Hold:
    hold_id: int
    parts: list[Part]
    made_at: datetime
    expires_at: datetime
    is_open: bool = True

    @property
    def amount(self) -> Decimal:
        return total(self.parts)


@dataclass(eq=False)
class Row:
    seq: int
    kind: str
    amount: Decimal
    balance_after: Decimal
    at: datetime
    parts: list[Part] = field(default_factory=list)
    held: Decimal = ZERO  # of a capture: what had been taken before, at held_at
    held_at: datetime = FOREVER
    refunded: Decimal = ZERO


def total(parts: Iterable[Part]) -> Decimal:
    return sum((amount for _, amount in parts), ZERO)


def cut(parts: Iterable[Part], amount: Decimal) -> tuple[list[Part], list[Part]]:
    """The parts up to an amount, and the rest."""
    first: list[Part] = []
    rest: list[Part] = []
    for grant, part in parts:
        taken = min(part, amount)
        amount -= taken
        first += [(grant, taken)] if taken else []
        rest += [(grant, part - taken)] if part > taken else []
    return first, rest


def months_after(anchor: datetime, months: int) -> datetime:
    year, month = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return anchor.replace(year=year, month=month + 1, day=min(anchor.day, last))


class Account:
    def __init__(self, now: datetime) -> None:
        self.last_at = now
        self.rows: list[Row] = []
        self.grants: list[Grant] = []
        self.holds: list[Hold] = []
        self.debts: list[Debt] = []
        self.uses: list[tuple[Any, ...]] = []
        self.overdraft_limit = self.allowance = ZERO
        self.highest = ZERO  # allowance of this period
        self.rollover_limit: Decimal | None = ZERO
        self.anchor: datetime | None = None
        self.periods = 0
        self.burn_order = "purchased_first"
        self.is_frozen = False
        self.clawback = "owed"

    @property
    def owed(self) -> Decimal:
        return sum((debt.unpaid for debt in self.debts), ZERO)

    @property
    def balance(self) -> Decimal:
        return self.rows[-1].balance_after if self.rows else ZERO

    @property
    def held(self) -> Decimal:
        return sum((hold.amount for hold in self.holds if hold.is_open), ZERO)

    @property
    def available(self) -> Decimal:
        return max(ZERO, self.balance - self.held + self.overdraft_limit)

    @property
    def lifetime_earned(self) -> Decimal:
        return sum((row.amount for row in self.rows if row.kind == "grant"), ZERO)

    @property
    def lifetime_spent(self) -> Decimal:
        spent = ("deduction", "capture", "refund")
        return -sum((row.amount for row in self.rows if row.kind in spent), ZERO)

    @property
    def period_end(self) -> datetime:
        return months_after(self.anchor, self.periods + 1) if self.anchor else FOREVER

    def write(self, kind: str, amount: Decimal, at: datetime, **more: Any) -> Row:
        at = max(at, self.rows[-1].at) if self.rows else at
        row = Row(len(self.rows) + 1, kind, amount, self.balance + amount, at, **more)
        self.rows.append(row)
        return row

    def pay_owed(self, amount: Decimal, grant: Grant, at: datetime) -> Decimal:
        """Every credit pays what is owed first, the oldest debt first; what is left of it."""
        for debt in self.debts:
            if paid := min(debt.unpaid, amount):
                debt.unpaid -= paid
                debt.paid_by.append((grant, paid, at))
                amount -= paid
        return amount

    def cancel(self, debt: Debt, amount: Decimal) -> list[tuple[Grant, Decimal, datetime]]:
        """A debt is given back: what is unpaid goes, the rest returns to the last who paid it."""
        unpaid = min(debt.unpaid, amount)
        debt.unpaid -= unpaid
        amount -= unpaid
        back = []
        while amount:
            grant, paid, at = debt.paid_by.pop()
            part = min(paid, amount)
            if part < paid:
                debt.paid_by.append((grant, paid - part, at))
            back.append((grant, part, at))
            amount -= part
        return back

    def new_grant(
        self, source: str, amount: Decimal, at: datetime, expires_at: datetime, **more: Any
    ) -> Grant:
        terms: dict[str, Any] = {"grant_id": len(self.grants) + 1, "bought_at": at}
        grant = Grant(source, amount, ZERO, at, expires_at, **(terms | more))
        if not grant.is_pending:
            grant.free = self.pay_owed(amount, grant, at)
        self.grants.append(grant)
        return grant

    def hand_on(
        self, old: Grant, source: str, amount: Decimal, at: datetime, until: datetime
    ) -> None:
        """Credits go on in a new grant; what was revoked of the old one, as credits of its own."""
        rooted = min(amount, old.revocable - old.expired)
        old.moved += rooted
        terms = {"bought_at": old.bought_at}
        if rooted:
            self.new_grant(source, rooted, at, until, root=old.root or old, **terms)
        if amount > rooted:
            self.new_grant(source, amount - rooted, at, until, **terms)

    def late(self, grant: Grant, part: Decimal, taken_at: datetime, at: datetime) -> None:
        """What comes back after its grant ended lives as long as it would have."""
        time_left = max(timedelta(0), grant.expires_at - max(taken_at, grant.effective_at))
        until = min(at + time_left, self.period_end)
        if part and until > at:
            self.hand_on(grant, "refund", part, at, until)
        elif part := self.pay_owed(part, grant, at):
            self.write("expiry", -part, at)
            grant.expire(part)

    def open_grants(self) -> list[Grant]:
        def order(grant: Grant) -> tuple[Any, ...]:
            rank, expires_at = RANK[grant.source], grant.expires_at
            soonest = self.burn_order == "expiring_first"
            then = (expires_at, rank) if soonest else (rank, expires_at)
            return grant.priority, *then, grant.grant_id

        return sorted((grant for grant in self.grants if grant.free), key=order)

    def burn(self, amount: Decimal, grants: Sequence[Grant] | None = None) -> list[Part]:
        """Take free credits in burn order; what they do not cover becomes owed."""
        everything = self.open_grants() if grants is None else grants
        parts, _ = cut([(grant, grant.free) for grant in everything], amount)
        for grant, part in parts:
            assert isinstance(grant, Grant)
            grant.free -= part
        if uncovered := amount - total(parts):
            self.debts.append(Debt(uncovered))
            parts.append((self.debts[-1], uncovered))
        return parts

    def give_back(self, hold: Hold, parts: list[Part], at: datetime, *, lapses: bool) -> None:
        """Return what was held; a hold that lapses as its grants end was there before their end."""
        todo: list[tuple[Grant | Debt, Decimal, datetime]]
        todo = [(grant, part, hold.made_at) for grant, part in parts]
        for grant, part, taken_at in todo:
            if isinstance(grant, Debt):
                todo += self.cancel(grant, part)
                continue
            over = grant.expires_at < at or (grant.expires_at == at and not lapses)
            if over and (
                gone := min(part, max(ZERO, grant.revocable - grant.expired - grant.free))
            ):
                self.write("expiry", -gone, at)
                grant.expire(gone)
                part -= gone
            part = self.pay_unrecovered(grant, part, at)
            if over:
                self.late(grant, part, taken_at, at)
            else:
                grant.free += self.pay_owed(part, grant, at)

    def pay_unrecovered(self, grant: Grant, part: Decimal, at: datetime) -> Decimal:
        if paid := min(part, grant.unrecovered):
            grant.unrecovered -= paid
            self.write("revoke", -paid, at)
        return part - paid

    # what falls due

    def due(self) -> Iterator[tuple[datetime, int, int, Callable[[datetime], None]]]:
        for hold in self.holds:
            if hold.is_open:
                yield hold.expires_at, 1, hold.hold_id, partial(self.close, hold, lapses=True)
        yield self.period_end, 2, 0, self.reset
        for grant in self.grants:
            if grant.free:
                yield grant.expires_at, 3, grant.grant_id, partial(self.expire, grant)
            if grant.is_pending:
                yield grant.effective_at, 4, grant.grant_id, partial(self.admit, grant)

    def settle(self, now: datetime) -> datetime:
        self.last_at = max(now, self.last_at)
        while True:
            at, *_, happen = min(self.due(), key=lambda event: event[:3])
            if at > self.last_at:
                return self.last_at
            happen(at)

    def close(self, hold: Hold, at: datetime, *, lapses: bool = False) -> None:
        hold.is_open = False
        self.give_back(hold, hold.parts, at, lapses=lapses)

    def expire(self, grant: Grant, at: datetime) -> None:
        self.write("expiry", -grant.free, at)
        grant.expire(grant.free)
        grant.free = ZERO

    def admit(self, grant: Grant, at: datetime) -> None:
        grant.is_pending = False
        amount = grant.amount - grant.revoked
        grant.free = self.pay_owed(amount, grant, at)
        self.write("grant", amount, at)

    def reset(self, at: datetime) -> None:
        self.periods += 1
        self.highest = self.allowance
        room, gone = self.rollover_limit, ZERO
        ending = [
            grant
            for grant in self.grants
            if grant.source in ("allowance", "rollover") and grant.expires_at == at and grant.free
        ]
        ending.sort(key=lambda grant: (grant.bought_at, grant.grant_id), reverse=True)
        rolls = []  # the newest first
        for grant in ending:
            rolls.append(grant.free if room is None else min(grant.free, room))
            room = None if room is None else room - rolls[-1]
            gone += grant.free - rolls[-1]
        if old := sum(rolls[12:], ZERO):
            terms = {"bought_at": ending[-1].bought_at}
            self.new_grant("rollover", old, at, self.period_end, **terms)
        for n, grant in reversed(list(enumerate(ending))):
            if n < 12:
                grant.free -= rolls[n]
                self.hand_on(grant, "rollover", rolls[n], at, self.period_end)
            grant.expire(grant.free)
            grant.free = ZERO
        if gone:
            self.write("expiry", -gone, at)
        self.allow(self.allowance, at)

    def allow(self, amount: Decimal, at: datetime) -> None:
        if amount > 0:
            self.new_grant("allowance", amount, at, self.period_end)
            self.write("grant", amount, at)

    def balance_at(self, at: datetime) -> Decimal:
        return sum((row.amount for row in self.rows if row.at <= at), ZERO)
