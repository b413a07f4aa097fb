"""What a customer, the shop and its staff do with a subscription, on the model of billing."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.properties.billing import Customer
from tests.properties.deals import (
    BURNING,
    FOREVER,
    MONTHS,
    SAID,
    ZERO,
    Deal,
    Grant,
    Hold,
    Refused,
)


@dataclass
class Subscriber(Customer):
    """A customer who acts. Each act takes place at the customer's time."""

    def live(self) -> Deal:
        """The subscription that somebody started and that has not ended."""
        if not self.deal or self.deal.by_default or self.deal.status in ("canceled", "expired"):
            raise Refused("PT422")
        return self.deal

    # Credits

    def burn(self, amount: Decimal) -> list[tuple[Grant, Decimal]]:
        """Take credits: bought ones first, what is granted each month last."""
        parts = []
        order = sorted(self.grants, key=lambda g: (BURNING.index(g.source), g.end, g.number))
        for grant in order:
            part = min(amount, grant.free)
            grant.free -= part
            amount -= part
            parts += [(grant, part)] if part else []
        self.grants = [grant for grant in self.grants if grant.free]
        return parts

    def use(self, amount: Decimal) -> str:
        if amount > self.free:
            return "INSUFFICIENT_CREDITS"
        self.write("deduction", -amount)
        self.burn(amount)
        return ""

    def hold(self, amount: Decimal, ttl: timedelta) -> str:
        """Reserve credits for a time."""
        if amount > self.free:
            return "INSUFFICIENT_CREDITS"
        self.holds.append(Hold(self.burn(amount), self.now + ttl))
        return ""

    def capture(self, hold: int, amount: Decimal) -> str:
        """Charge so much: what is held, as it was burned, then more; or the rest comes back."""
        if hold > len(self.holds):
            return "HOLD_NOT_FOUND"
        found = self.holds[hold - 1]
        if not found.parts:
            return "HOLD_CLOSED"
        more = amount - sum((part for _, part in found.parts), ZERO)
        if more > self.free:
            return "INSUFFICIENT_CREDITS"
        self.write("capture", -amount)
        self.burn(max(more, ZERO))
        left = []
        for grant, part in found.parts:
            taken = min(part, amount)
            amount -= taken
            left += [(grant, part - taken)] if part > taken else []
        found.parts = left
        self.give_back(found)
        return ""

    def add(self, amount: Decimal, source: str, end: datetime | None = None) -> None:
        self.grant(source, amount, end or FOREVER)

    # The subscription

    def start(
        self,
        plan: str,
        interval: str = "month",
        quantity: int = 1,
        is_trial: bool = False,
        allowance: Decimal | None = None,
        anchor: datetime | None = None,
    ) -> None:
        if (
            self.deal
            and not self.deal.by_default
            and self.deal.status not in ("canceled", "expired")
        ):
            raise Refused("PT409")
        terms = self.plans[plan]
        has_it = self.deal and self.deal.by_default and self.deal.plan == terms
        if has_it and not is_trial and (quantity, allowance) == (1, None):
            raise Refused("PT409")
        if is_trial and (self.had_any or not terms.trial_days):
            raise Refused("PT422")
        deal = Deal(terms, interval=interval, quantity=quantity, own=allowance)
        if self.runs and self.paid_until and self.now < self.paid_until:
            deal.first = self.month
            self.units = max(self.units or 0, quantity)
            self.raise_to(deal, terms.replaces, deal.granted)
        else:
            if terms.replaces:
                self.expire(self.of_plan())
            self.begin(self.now if is_trial else anchor or self.now)
            if is_trial:
                deal.status = "trialing"
                deal.trial_end = self.trial_end = self.now + timedelta(days=terms.trial_days)
            deal.first = self.month
            self.raise_to(deal)
        self.deal, self.had_any = deal, True

    def changed(
        self,
        plan: str | None,
        interval: str | None,
        quantity: int | None,
        allowance: Decimal | None,
        at_period_end: bool | None,
    ) -> tuple[Deal, bool, bool]:
        """The deal as it would be, whether that is an upgrade, and whether it comes now."""
        old = self.live()
        if old.status not in ("trialing", "active"):
            raise Refused("PT422")
        terms = self.plans[plan] if plan else old.plan
        own = old.own if allowance is None and terms == old.plan else allowance
        new = replace(
            old, plan=terms, interval=interval or old.interval, quantity=quantity or old.quantity,
            own=own, cancel_at=None, change_at=None, then=None,
        )  # fmt: skip
        if (new.plan, new.interval, new.quantity, new.own) == (
            old.plan, old.interval, old.quantity, old.own):  # fmt: skip
            raise Refused("PT409")
        is_upgrade = new.plan.rank > old.plan.rank or (
            new.plan.rank == old.plan.rank
            and new.allowance >= old.allowance
            and MONTHS[new.interval] >= MONTHS[old.interval]
        )
        comes_now = is_upgrade if at_period_end is None else not at_period_end
        return new, is_upgrade, comes_now

    def change(
        self,
        plan: str | None = None,
        interval: str | None = None,
        quantity: int | None = None,
        allowance: Decimal | None = None,
        at_period_end: bool | None = None,
    ) -> None:
        if self.deal and self.deal.by_default and plan and not at_period_end:
            self.start(plan, interval or "month", quantity or 1, allowance=allowance)
            return
        new, _, comes_now = self.changed(plan, interval, quantity, allowance, at_period_end)
        old = self.live()
        if comes_now:
            if new.interval != old.interval:
                new.first = self.month
            self.deal = new
            is_same = new.plan == old.plan
            self.units = old.quantity if self.units is None else self.units
            units = 0 if is_same or new.plan.prorates else min(new.quantity, self.units)
            in_full = new.granted / new.quantity * units
            self.raise_to(new, new.plan.replaces and not is_same, in_full)
        else:
            old.cancel_at, old.then, old.change_at = None, new, self.paid()[1]

    def preview(self, **asked: Any) -> dict[str, Any]:
        """What change() would do."""
        seen = copy.deepcopy(self)
        asked = {"plan": None, "interval": None, "quantity": None, "allowance": None,
                 "at_period_end": None} | asked  # fmt: skip
        is_upgrade = comes_now = True
        if not (self.deal and self.deal.by_default):
            new, is_upgrade, comes_now = seen.changed(**asked)
        before = len(seen.lines)
        seen.change(**asked)
        if self.deal and self.deal.by_default and seen.deal:
            new = seen.deal
        more = seen.lines[before:]
        return {
            "is_upgrade": is_upgrade,
            "change_at": self.now if comes_now else self.paid()[1],
            "credits_now": sum((amount for kind, amount, _ in more if kind == "grant"), ZERO),
            "credits_expired": -sum((amount for kind, amount, _ in more if kind == "expiry"), ZERO),
            "monthly_allowance": new.allowance,
        }

    def cancel(self, at_period_end: bool = True) -> None:
        deal = self.live()
        if at_period_end:
            deal.cancel_at, deal.then, deal.change_at = self.paid()[1], None, None
        else:
            self.end_now("canceled")

    def end_now(self, status: str) -> None:
        deal = self.live()
        is_paid = deal.status in ("trialing", "active") or any(upto for upto, _ in self.offers)
        units = deal.quantity if self.units is None else self.units
        self.follow(status)
        self.units = units if is_paid else 0
        if self.deal and self.deal.by_default:
            self.raise_to(self.deal, in_full=self.deal.granted)

    def resume(self) -> None:
        deal = self.live()
        deal.cancel_at = deal.change_at = deal.then = None

    def say(self, status: str) -> None:
        """What became of the payments."""
        deal = self.live()
        if status not in SAID[deal.status]:
            raise Refused("PT422")
        if (deal.status, status) == ("unpaid", "past_due"):
            return
        if status in ("canceled", "expired"):
            self.end_now(status)
        elif deal.status == "trialing":
            deal.is_paid = True
        elif status != deal.status:
            deal.status = status
            deal.grace_end = self.now + deal.plan.grace if status == "past_due" else None
            self.raise_to(deal)
            self.pass_to(self.now)

    # What can be seen

    def view(self) -> dict[str, Any] | None:
        deal = self.deal
        if deal is None:
            return None
        start, end = deal.lasted or self.paid()
        return {
            "plan_id": deal.plan.name,
            "status": deal.status,
            "has_access": deal.status in ("trialing", "active", "past_due"),
            "provider": "default" if deal.by_default else "manual",
            "billing_interval": deal.interval,
            "quantity": deal.quantity,
            "monthly_allowance": deal.allowance,
            "current_period_start": start,
            "current_period_end": end,
            "trial_ends_at": deal.trial_end,
            "cancel_at_period_end": deal.cancel_at is not None,
            "change_at": deal.cancel_at or deal.change_at,
            "next_plan": deal.then and (deal.then.plan.name, deal.then.quantity),
        }
