"""What is said of a subscription."""

from __future__ import annotations

from typing import Any

from pgsaas.cli.money import money, price
from pgsaas.cli.table import plain


def what_is_to_come(row: dict[str, Any]) -> str:
    """What happens to a subscription at the end of its period; empty for nothing."""
    when = plain(row["change_at"])
    if row["cancel_at_period_end"]:
        return f"ends {when}"
    following = row["next_plan"]
    if not following:
        return ""
    quantity = following["quantity"]
    terms = following["unit_amount"], following["currency"], quantity, following["billing_interval"]
    said = price(*terms) or (f"quantity {quantity}" if quantity != row["quantity"] else "")
    return f"{following['plan_id']} from {when} on" + (f": {said}" if said else "")


def price_of(row: dict[str, Any]) -> str:
    """What a subscription costs; empty where there is no price."""
    terms = row["unit_amount"], row["currency"], row["quantity"], row["billing_interval"]
    return price(*terms)


def line(row: dict[str, Any]) -> str:
    """A live subscription in one line."""
    end = "trial" if row["status"] == "trialing" else "period"
    parts = [
        f"{row['plan_id']}: {row['status']}",
        price_of(row),
        f"{plain(row['monthly_allowance'])} credits a month",
        f"{end} ends {plain(row['current_period_end'])}",
    ]
    return ", ".join(part for part in parts if part)


def what_followed(row: dict[str, Any], status: str) -> str:
    """What a subscription that has ended was followed by."""
    if row["ended_at"]:
        return f"{row['plan_id']} is {row['status']}, without access"
    return f"{status}; the account is on {row['plan_id']} now"


def preview_line(seen: dict[str, Any], row: dict[str, Any], interval: str) -> str:
    """What a change would cost and give."""
    is_later = seen["change_at"] == row["current_period_end"]
    what = "upgrade" if seen["is_upgrade"] else "change"
    date = f"on {plain(seen['change_at'])}" if is_later else "now"
    due = money(seen["amount_now"], seen["currency"]) if seen["amount_now"] else "nothing"
    later = price(seen["amount_next"], seen["currency"], 1, interval) or "no price is known"
    granted = plain(seen["credits_now"]) if seen["credits_now"] else "no"
    gone = f" in place of {plain(seen['credits_expired'])}" if seen["credits_expired"] else ""
    return (
        f"{what} {date}: {due} to pay now, then {later}; {granted} credits now{gone}, "
        f"then {plain(seen['monthly_allowance'])} a month"
    )
