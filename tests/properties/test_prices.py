"""What a quantity costs, by every price model, against arithmetic in exact fractions."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from tests.conftest import Conn

FIGURES = st.decimals(0, 1000, places=12) | st.sampled_from([Decimal(n) for n in (0, 1, 5, 1000)])
QUANTITIES = st.decimals("0.000001", 10**6, places=6) | st.integers(1, 10**12).map(Decimal)
EDGES = st.lists(st.decimals("0.000001", 10**4, places=6), max_size=4, unique=True).map(sorted)


@st.composite
def prices(draw: st.DrawFn) -> dict[str, Any]:
    price: dict[str, Any] = {"model": draw(st.sampled_from(["flat", "unit", "package", "tiers"]))}
    for name in ("base", "minimum"):
        if draw(st.booleans()):
            price[name] = draw(FIGURES)
    if price["model"] == "flat":
        price["base"] = draw(FIGURES)
    if price["model"] in ("unit", "package"):
        price["unit"] = draw(FIGURES)
    if price["model"] == "package":
        price["size"] = draw(st.decimals("0.000001", 10**4, places=6))
        price["round"] = draw(st.sampled_from(["up", "down", "exact"]))
    if price["model"] == "tiers":
        price["model"] = draw(st.sampled_from(["graduated", "volume"]))
        ends = [*draw(EDGES), None]
        price["tiers"] = [
            {"up_to": end, "unit": draw(FIGURES), "flat": draw(FIGURES)} for end in ends
        ]
        price["per"] = draw(st.sampled_from(["call", "period"]))
    return price


def expected(price: dict[str, Any], quantity: Decimal, before: Decimal) -> Fraction:
    """The cost as the catalogue's author would work it out on paper."""
    used, start = Fraction(quantity), Fraction(before)
    cost = Fraction(price.get("base", 0))
    match price["model"]:
        case "unit":
            cost += used * Fraction(price["unit"])
        case "package":
            packages = used / Fraction(price["size"])
            if price["round"] != "exact":
                up = price["round"] == "up"
                packages = Fraction(math.ceil(packages) if up else math.floor(packages))
            cost += packages * Fraction(price["unit"])
        case "volume" if price["per"] == "call":
            cost += by_volume(price["tiers"], used)
        case "volume":
            cost += highest_so_far(price["tiers"], start + used)
            cost -= highest_so_far(price["tiers"], start)
        case "graduated":
            lower = Fraction(0)
            for tier in price["tiers"]:
                upper = None if tier["up_to"] is None else Fraction(tier["up_to"])
                end = start + used if upper is None else min(upper, start + used)
                inside = end - max(lower, start)
                if inside > 0:
                    cost += inside * Fraction(tier["unit"])
                    cost += Fraction(tier["flat"]) if start <= lower else 0
                if upper is None:
                    break
                lower = upper
    cost = max(cost, Fraction(price.get("minimum", 0)))
    return Fraction(math.ceil(cost * 10**6), 10**6)


def by_volume(tiers: list[dict[str, Any]], used: Fraction) -> Fraction:
    """All units cost what the tier they reach says."""
    tier = next(t for t in tiers if t["up_to"] is None or used <= t["up_to"])
    return used * Fraction(tier["unit"]) + Fraction(tier["flat"])


def highest_so_far(tiers: list[dict[str, Any]], used: Fraction) -> Fraction:
    """What has been paid by then: no price on the way was lower than an earlier one."""
    ends = [Fraction(t["up_to"]) for t in tiers if t["up_to"] is not None and t["up_to"] < used]
    return max((by_volume(tiers, at) for at in [*ends, used] if at), default=Fraction(0))


def in_json(value: Any) -> Any:
    """Decimals as JSON numbers, exactly; only the database reads them."""
    if isinstance(value, dict):
        return "{" + ",".join(f'"{key}":{in_json(part)}' for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(in_json, value)) + "]"
    if isinstance(value, str):
        return f'"{value}"'
    return "null" if value is None else f"{value:f}"


def cost_of(tx: Conn, price: dict[str, Any], quantity: Decimal, before: Decimal) -> Fraction:
    row = tx.execute(
        "select pgsaas.usage_cost(pgsaas.check_price('e', %s::jsonb, '{}'), %s, %s)",
        [in_json(price), quantity, before],
    ).fetchone()
    assert row is not None
    return Fraction(row[0])


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), price=prices(), before=st.just(Decimal(0)) | QUANTITIES)
def test_a_cost_is_what_exact_fractions_say(
    tx: Conn, data: st.DataObject, price: dict[str, Any], before: Decimal
) -> None:
    before = before if price.get("per") == "period" else Decimal(0)
    ends = [tier["up_to"] for tier in price.get("tiers", []) if tier["up_to"]]
    quantity = data.draw(QUANTITIES | st.sampled_from(ends) if ends else QUANTITIES)
    assert cost_of(tx, price, quantity, before) == expected(price, quantity, before)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(unit=FIGURES, size=QUANTITIES, parts=st.lists(QUANTITIES, min_size=2, max_size=5))
def test_splitting_use_is_never_cheaper_by_rounding(
    tx: Conn, unit: Decimal, size: Decimal, parts: list[Decimal]
) -> None:
    for price in (
        {"model": "unit", "unit": unit},
        {"model": "package", "unit": unit, "size": size, "round": "exact"},
        {"model": "package", "unit": unit, "size": size, "round": "up"},
    ):
        apart = sum(cost_of(tx, price, part, Decimal(0)) for part in parts)
        assert apart >= cost_of(tx, price, sum(parts, Decimal(0)), Decimal(0))


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(price=prices(), parts=st.lists(QUANTITIES, min_size=2, max_size=5))
def test_tiers_of_a_period_do_not_care_how_use_is_split(
    tx: Conn, price: dict[str, Any], parts: list[Decimal]
) -> None:
    if "tiers" not in price:
        return
    price = {**price, "per": "period", "base": Decimal(0), "minimum": Decimal(0)}
    before, apart = Decimal(0), Fraction(0)
    for part in parts:
        apart += cost_of(tx, price, part, before)
        before += part
    whole = cost_of(tx, price, before, Decimal(0))
    assert whole <= apart < whole + Fraction(len(parts), 10**6)


def test_a_price_is_read_exactly(tx: Conn) -> None:
    price = Jsonb({"model": "unit", "unit": 0.1})
    row = tx.execute(
        "select pgsaas.usage_cost(pgsaas.check_price('e', %s, '{}'), 3)", [price]
    ).fetchone()
    assert row == (Decimal("0.3"),)
