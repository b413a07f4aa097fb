"""The functions of the ledger, in a few lines each: what SQL must answer.

A World holds accounts; `call()` takes the time of the transaction and the name and arguments of
an SQL function, without `p_` and free text, and answers with the columns that must come back.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from copy import deepcopy
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

from tests.properties.account import (
    FOREVER,
    ZERO,
    Account,
    Debt,
    Grant,
    Hold,
    Part,
    Row,
    cut,
    total,
)

Answer: TypeAlias = dict[str, Any]


class Raised(Exception):
    """The call raises; nothing of it stays. The one argument is the SQLSTATE."""


def is_amount(amount: Decimal | None) -> bool:
    if amount is None or not amount.is_finite() or not 0 < amount <= 10**12:
        return False
    return amount == round(amount, 6)


class Ledger(Account):
    """An account and the functions that change it; it is settled, `at` is account time."""

    def done(self, row: Row | None = None, **more: Any) -> Answer:
        after, seq = (row.balance_after, row.seq) if row else (self.balance, None)
        more |= {"success": True, "error_code": None, "replayed": False, "seq": seq}
        return more | {"new_balance": after, "available": self.available}

    def refuse(self, code: str) -> Answer:
        return self.done() | {"success": False, "error_code": code}

    def start_period(
        self, at: datetime, allowance: Decimal, rollover_limit: Decimal | None
    ) -> Answer:
        self.anchor, self.periods, self.highest = at, 0, ZERO
        return self.change_allowance(at, allowance, rollover_limit)

    def change_allowance(
        self, at: datetime, allowance: Decimal, rollover_limit: Decimal | None
    ) -> Answer:
        self.allow(allowance - self.highest, at)
        self.highest = max(self.highest, allowance)
        self.allowance, self.rollover_limit = allowance, rollover_limit
        return {}

    def deduct_credits(self, at: datetime, amount: Decimal, **_: Any) -> Answer:
        if self.is_frozen:
            return self.refuse("ACCOUNT_FROZEN")
        if self.available < amount:
            return self.refuse("INSUFFICIENT_CREDITS")
        row = self.write("deduction", -amount, at, parts=self.burn(amount))
        return self.done(row)

    def record_usage(self, at: datetime, event: str, quantity: Decimal) -> Answer:
        cost = quantity if event == "credit" else ZERO
        if self.is_frozen:
            return self.refuse("ACCOUNT_FROZEN") | {"cost": cost}
        if self.available < cost:
            return self.refuse("INSUFFICIENT_CREDITS") | {"cost": cost}
        row = self.write("deduction", -cost, at, parts=self.burn(cost)) if cost else None
        answer = self.done(row, cost=cost, usage_id=len(self.uses) + 1)
        done = answer["usage_id"], event, quantity, cost, answer["seq"], answer["new_balance"]
        self.uses.append((*done, at))
        return answer

    def add_credits(
        self,
        at: datetime,
        amount: Decimal,
        source: str = "bonus",
        expires_at: datetime | None = None,
        effective_at: datetime | None = None,
        priority: int | None = None,
    ) -> Answer:
        start = max(at, effective_at or at)
        terms = {"priority": priority or 0, "is_pending": start > at}
        grant = self.new_grant(source, amount, start, expires_at or FOREVER, **terms)
        row = self.write("grant", ZERO if grant.is_pending else amount, at)
        return self.done(row, grant_id=grant.grant_id)

    def adjust_credits(self, at: datetime, amount: Decimal) -> Answer:
        if amount > 0:
            self.new_grant("bonus", amount, at, FOREVER)
        elif sum(grant.free for grant in self.grants) < -amount:
            return self.refuse("INSUFFICIENT_CREDITS")
        else:
            self.burn(-amount)
        return self.done(self.write("adjustment", amount, at))

    def hold_credits(self, at: datetime, amount: Decimal, ttl: timedelta, **_: Any) -> Answer:
        if self.is_frozen:
            return self.refuse("ACCOUNT_FROZEN")
        if self.available < amount:
            return self.refuse("INSUFFICIENT_CREDITS")
        hold = Hold(len(self.holds) + 1, self.burn(amount), at, at + ttl)
        self.holds.append(hold)
        return self.done(hold_id=hold.hold_id, expires_at=hold.expires_at)

    def find_hold(self, hold_id: int) -> Hold | Answer:
        if not 0 < hold_id <= len(self.holds):
            return self.refuse("HOLD_NOT_FOUND")
        hold = self.holds[hold_id - 1]
        return hold if hold.is_open else self.refuse("HOLD_CLOSED")

    def extend_hold(self, at: datetime, hold_id: int, ttl: timedelta) -> Answer:
        if not isinstance(hold := self.find_hold(hold_id), Hold):
            return hold
        hold.expires_at = max(hold.expires_at, at + ttl)
        return self.done(expires_at=hold.expires_at)

    def release_hold(self, at: datetime, hold_id: int) -> Answer:
        if not isinstance(hold := self.find_hold(hold_id), Hold):
            return hold
        self.close(hold, at)
        return self.done()

    def capture_hold(
        self, at: datetime, hold_id: int, amount: Decimal | None = None, shortfall: str = "refuse"
    ) -> Answer:
        if not isinstance(hold := self.find_hold(hold_id), Hold):
            return hold
        amount = hold.amount if amount is None else amount
        parts, rest = cut(hold.parts, amount)
        excess = amount - total(parts)
        if excess and self.is_frozen and shortfall != "debt":
            if shortfall == "refuse":
                return self.refuse("ACCOUNT_FROZEN")
            excess = ZERO
        if excess > self.available:
            if shortfall == "refuse":
                return self.refuse("INSUFFICIENT_CREDITS")
            if shortfall == "partial":
                excess = self.available
        hold.is_open = False
        parts += self.burn(excess)
        held = {"held": hold.amount, "held_at": hold.made_at}
        row = self.write("capture", -total(parts), at, parts=parts, **held)
        self.give_back(hold, rest, at, lapses=False)
        return self.done(row, captured=total(parts))

    def refund_credits(self, at: datetime, seq: int, amount: Decimal | None = None) -> Answer:
        taken = self.rows[seq - 1] if 0 < seq <= len(self.rows) else None
        if taken is None or not taken.parts:
            return self.refuse("NOT_REFUNDABLE")
        left = -taken.amount - taken.refunded
        amount = left if amount is None else amount
        if amount > left or not left:
            return self.refuse("REFUND_EXCEEDS")
        _, unrefunded = cut(reversed(taken.parts), taken.refunded)
        taken.refunded += amount
        row = self.write("refund", amount, at)
        beyond = max(ZERO, total(unrefunded) - taken.held)
        lately, before = cut(cut(unrefunded, amount)[0], beyond)
        self.refund_parts(lately, taken.at, at)
        self.refund_parts(before, taken.held_at, at)
        return self.done(row)

    def refund_parts(self, parts: list[Part], taken_at: datetime, at: datetime) -> None:
        """Return what was taken at a time; what has expired lives as long as it would have."""
        todo: list[tuple[Grant | Debt, Decimal, datetime]]
        todo = [(grant, part, taken_at) for grant, part in parts]
        for grant, part, when in todo:
            if isinstance(grant, Debt):
                todo += self.cancel(grant, part)
                continue
            part = self.pay_unrecovered(grant, part, at)
            if grant.expires_at > at:
                grant.free += self.pay_owed(part, grant, at)
            else:
                self.late(grant, part, when, at)

    def revoke_grant(self, at: datetime, grant_id: int, amount: Decimal | None = None) -> Answer:
        grant = self.grants[grant_id - 1] if 0 < grant_id <= len(self.grants) else None
        family = [grant, *(other for other in self.grants if other.root is grant)] if grant else []
        left = sum((each.revocable for each in family), ZERO)
        amount = left if amount is None else amount
        if not grant or grant.root or not left or amount > left:
            return self.refuse("NOT_REFUNDABLE")
        if grant.is_pending:
            grant.revoked += amount
            grant.is_pending = grant.revoked < grant.amount
            return self.done(self.write("revoke", ZERO, at), unrecovered=ZERO)
        room = {each.grant_id: each.revocable - each.expired for each in family}
        free = [(each, min(each.free, room[each.grant_id])) for each in family]
        spent = [(each, max(ZERO, room[each.grant_id] - each.free)) for each in family]
        own, _ = cut(free, amount)
        harmless, _ = cut([(each, each.expired) for each in family], amount - total(own))
        gone, _ = cut(spent, amount - total(own) - total(harmless))
        for each, part in [*own, *harmless, *gone]:
            assert isinstance(each, Grant)
            each.revoked += part
        for each, part in own:
            assert isinstance(each, Grant)
            each.free -= part
        for each, part in harmless:
            assert isinstance(each, Grant)
            each.expired -= part
        unrecovered = ZERO
        for each in family:
            from_each = [total(p for p in parts if p[0] is each) for parts in (own, harmless, gone)]
            if each is not grant and not any(from_each):
                continue
            taken = from_each[2]
            if self.clawback == "unrecovered":
                taken = min(taken, sum((other.free for other in self.grants), ZERO))
                each.unrecovered += from_each[2] - taken
                unrecovered += from_each[2] - taken
            self.burn(taken)
            row = self.write("revoke", -from_each[0] - taken, at)
        return self.done(row, unrecovered=unrecovered)

    def mobile_grants(self, at: datetime) -> list[Grant]:
        """What may move: bonuses, and purchases that can hardly be disputed any more."""
        old = at - timedelta(days=14)
        free = self.open_grants()
        return [
            g
            for g in free
            if g.source == "bonus" or (g.source == "purchase" and g.bought_at <= old)
        ]

    def set_overdraft_limit(self, at: datetime, limit: Decimal) -> Answer:
        self.overdraft_limit = limit
        return self.done()

    def set_burn_order(self, at: datetime, burn_order: str) -> Answer:
        self.burn_order = burn_order
        return self.done()

    def freeze_account(self, at: datetime) -> Answer:
        self.is_frozen = True
        return {}

    def unfreeze_account(self, at: datetime) -> Answer:
        self.is_frozen = False
        return {}


class World:
    def __init__(self) -> None:
        self.accounts: dict[UUID, Ledger] = {}
        self.organization: set[UUID] = set()  # it and its members' accounts
        self.effects: dict[tuple[UUID, str, str], tuple[dict[str, Any], Answer]] = {}

    def settled(self, account_id: UUID, now: datetime) -> Ledger:
        """What a reader sees: everything due is done, nothing is stored."""
        account = copy.deepcopy(self.accounts[account_id])
        account.settle(now)
        return account

    def call(
        self,
        now: datetime,
        name: str,
        account_id: UUID,
        idempotency_key: str | None = None,
        **asked: Any,
    ) -> Answer:
        account = self.accounts.get(account_id)
        if account is None:
            return {"success": False, "error_code": "ACCOUNT_NOT_FOUND"}
        if name == "adjust_credits" and not is_amount(abs(asked["amount"])):
            raise Raised("22023")
        if (effect := (account_id, name, idempotency_key or "")) in self.effects:
            first, answer = self.effects[effect]
            if first != asked:
                raise Raised("PT409")
            again = {name: answer[name] for name in answer if name != "unrecovered"}
            if hold_id := answer.get("hold_id"):
                again["expires_at"] = account.holds[hold_id - 1].expires_at
            seen = deepcopy(account)
            seen.settle(now)
            return again | {"replayed": True, "available": seen.available}
        start = max(now, account.last_at, asked.get("effective_at") or now)
        if (asked.get("expires_at") or FOREVER) <= start:
            raise Raised("22023")
        at = account.settle(now)
        if name == "transfer_credits":
            answer = self.transfer(now, account_id, **asked)
        else:
            answer = getattr(account, name)(at, **asked)
        if idempotency_key and answer["success"]:
            self.effects[effect] = asked, answer
        return answer

    def batch(self, now: datetime, name: str, items: Iterable[dict[str, Any]]) -> Iterator[Answer]:
        for item in items:
            if not is_amount(item.get("amount", item.get("quantity"))):
                yield {"success": False, "error_code": "INVALID_ARGUMENT"}
                continue
            try:
                yield self.call(now, name, **item)
            except Raised:
                yield {"success": False, "error_code": "KEY_CONFLICT"}

    def transfer(self, now: datetime, giver_id: UUID, to: UUID, amount: Decimal) -> Answer:
        if to not in self.accounts:
            return {"success": False, "error_code": "ACCOUNT_NOT_FOUND"}
        giver, taker = self.accounts[giver_id], self.accounts[to]
        now = max(now, giver.last_at, taker.last_at)
        at, taken_at = giver.settle(now), taker.settle(now)
        if giver.is_frozen or taker.is_frozen:
            return giver.refuse("ACCOUNT_FROZEN")
        if not {giver_id, to} <= self.organization:
            return giver.refuse("NOT_TRANSFERABLE")
        if giver.available < amount:
            return giver.refuse("INSUFFICIENT_CREDITS")
        mobile = giver.mobile_grants(at)
        fit = [(g, min(g.free, g.revocable - g.expired)) for g in mobile]
        if sum(part for _, part in fit) < amount:
            return giver.refuse("NOT_TRANSFERABLE")
        for grant, part in cut(fit, amount)[0]:
            assert isinstance(grant, Grant)
            grant.free -= part
            grant.moved += part
            grant.is_moved = True
            terms = {"priority": grant.priority, "bought_at": grant.bought_at, "is_moved": True}
            taker.new_grant(grant.source, part, taken_at, grant.expires_at, **terms)
        row = giver.write("transfer_out", -amount, at)
        taker.write("transfer_in", amount, taken_at)
        return giver.done(row)
