"""How money looks: amounts are kept in a currency's smallest unit, and read in its main one."""

from __future__ import annotations

from decimal import Decimal

#: Currencies that have no decimals, and three, as Stripe counts their smallest units; others two.
NONE = "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf"
THREE = "bhd jod kwd omr tnd"


def money(amount: int, currency: str | None) -> str:
    """An amount as a person reads it, such as 29.00 usd; as it is kept without a currency."""
    if currency is None:
        return str(amount)
    decimals = 0 if currency in NONE.split() else 3 if currency in THREE.split() else 2
    return f"{Decimal(amount).scaleb(-decimals):.{decimals}f} {currency}"


def price(amount: int | None, currency: str | None, quantity: int, interval: str) -> str:
    """The price of a quantity per interval; empty where there is none."""
    if amount is None:
        return ""
    each = f" ({quantity} x {money(amount, currency)})" if quantity > 1 else ""
    return f"{money(amount * quantity, currency)} a {interval}{each}"
