"""Faults of upgrades within a month: what a month has granted, and what another plan adds."""

from __future__ import annotations

from tests.mutants.fault import Fault

SUBSCRIPTIONS = "tests/sql/test_subscriptions.py"
UPGRADES = "tests/sql/test_upgrades.py"
PERIODS = "sql/36_periods.sql"
SUBSCRIBING = "sql/58_subscribing.sql"

UPGRADES_FAULTS = [
    Fault(
        "an upgrade grants the whole new allowance",
        PERIODS,
        "greatest(v_in_full - p_b.period_granted, 0)",
        "v_in_full",
        "tests/sql/test_golden_ledger.py",
    ),
    Fault(
        "an allowance that goes round in circles is granted each time",
        PERIODS,
        "    v_b.period_granted := greatest(v_b.period_granted, v_b.allowance);\n",
        "",
        "tests/sql/test_settlement.py",
    ),
    Fault(
        "what the month granted in parts is forgotten",
        PERIODS,
        "v_b.period_raises := v_raised.p_raises;",
        "v_b.period_raises := null;",
        UPGRADES,
    ),
    Fault(
        "seats are granted for the whole month",
        PERIODS,
        "(p_allowance, p_b.last_at, false)),",
        "(p_allowance, v_start, false)),",
        UPGRADES,
    ),
    Fault(
        "what came for a part of the month is granted again in full",
        PERIODS,
        "min(s.since) filter (where s.is_had) as had,",
        "min(s.since) filter (where s.is_had and s.since = v_start) as had,",
        UPGRADES,
    ),
    Fault(
        "what came for a part of the month counts as granted in full",
        PERIODS,
        "min(s.since) filter (where s.is_had) as had,",
        "case when bool_or(s.is_had) then v_start end as had,",
        UPGRADES,
    ),
    Fault(
        "who pays late after more seats has them for the whole month",
        PERIODS,
        "= v_start then p_allowance else 0 end));",
        "= v_start then p_allowance else p_allowance end));",
        UPGRADES,
    ),
    Fault(
        "plans replace one another again and again in a month",
        PERIODS,
        "p_is_replaced := p_replaces and not v_was_replaced and",
        "p_is_replaced := p_replaces and",
        UPGRADES,
    ),
    Fault(
        "a plan takes what the old one gave, and gives nothing",
        PERIODS,
        "and not v_was_replaced and v_sums.more > 0;",
        "and not v_was_replaced;",
        "tests/properties/test_years.py",
    ),
    Fault(
        "another month begins with the parts of the last one",
        "sql/29_settlement.sql",
        "    p_b.period_raises := null;\n",
        "",
        UPGRADES,
    ),
    Fault(
        "the reset of many keeps the parts of the last month",
        "sql/61_resets.sql",
        "               period_raises = null,\n",
        "",
        "tests/properties/test_resets.py",
    ),
    Fault(
        "seats that were added count as those that the month began with",
        "sql/49_subscriptions.sql",
        "coalesce((p_b.period_raises ->> 'units')::integer, p_units)",
        "p_units",
        UPGRADES,
    ),
    Fault(
        "who pays again within the month gets a part of it",
        SUBSCRIBING,
        "perform pgsaas.apply_terms(v_s, v_terms.on_upgrade = 'replace', v_terms.allowance,",
        "perform pgsaas.apply_terms(v_s, v_terms.on_upgrade = 'replace', 0,",
        UPGRADES,
    ),
    Fault(
        "the seats of who pays again within the month count as added",
        SUBSCRIBING,
        "greatest(pgsaas.units_in_full(v_b, 0), v_s.quantity));",
        "pgsaas.units_in_full(v_b, 1));",
        UPGRADES,
    ),
    Fault(
        "seats that come with another plan are granted for the whole month",
        SUBSCRIBING,
        "           else pgsaas.in_full_for(p_new, p_units) end",
        "           else t.allowance end",
        UPGRADES,
    ),
    Fault(
        "who cancels and starts again loses the units of the month",
        "sql/49_subscriptions.sql",
        "        then pgsaas.units_in_full(v_b, p_s.quantity) else 0 end;",
        "        then null else 0 end;",
        UPGRADES,
    ),
    Fault(
        "units count that nobody had paid for",
        "sql/49_subscriptions.sql",
        "v_b.period_granted > 0 or p_s.status in ('trialing', 'active')",
        "true",
        UPGRADES,
    ),
    Fault(
        "a year that was canceled shortens what starts months later",
        SUBSCRIBING,
        "           and x.ended_at >= pgsaas.period_end(p_b.period_anchor, p_b.period_count)\n",
        "",
        UPGRADES,
    ),
    Fault(
        "the default plan that is assigned grants a month that had been granted",
        "sql/54_lifecycle.sql",
        "    if v_b.period_anchor is not null then\n        perform pgsaas.apply_terms(v_s, false,",
        "    if false then\n        perform pgsaas.apply_terms(v_s, false,",
        UPGRADES,
    ),
    Fault(
        "a migration does not see whom the plan has come to",
        "sql/60_cancellations.sql",
        "     where s.due_at <= pgsaas.now() and s.follows",
        "     where false and s.follows",
        SUBSCRIPTIONS,
    ),
    Fault(
        "a migration that waited takes subscribers back",
        "sql/60_cancellations.sql",
        "    if p_s.plan_id = p_plan_id and p_s.plan_version < p_version then",
        "    if p_s.plan_id = p_plan_id then",
        "tests/concurrency/test_period_races.py",
    ),
    Fault(
        "an upgrade that is prorated is granted for the whole month",
        SUBSCRIBING,
        "p_new.plan_id = p_s.plan_id or t.on_upgrade = 'prorate'",
        "p_new.plan_id = p_s.plan_id",
        UPGRADES,
    ),
]
