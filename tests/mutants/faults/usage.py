"""Faults of prices and of use."""

from __future__ import annotations

from tests.mutants.fault import MATRIX, MAY, PRICES, USAGE, USAGE_BATCH, USAGE_RACES, Fault

USAGE_FAULTS = [
    Fault(
        "a cost is rounded down",
        "sql/50_pricing.sql",
        "(div(v_top, v_size) + (mod(v_top, v_size) > 0)::integer) * 0.000001",
        "div(v_top, v_size) * 0.000001",
        PRICES,
    ),
    Fault(
        "a package that is rounded up is not",
        "sql/50_pricing.sql",
        "(p_price.package_rounding = 'up'",
        "(false",
        PRICES,
    ),
    Fault(
        "a tier ends before its last unit",
        "sql/50_pricing.sql",
        "if p_price.price_model = 'volume' and v_to = p_before + p_quantity then",
        "if p_price.price_model = 'volume' and v_to = p_before + p_quantity"
        " and (v_tier.up_to <> v_to) is not false then",
        PRICES,
    ),
    Fault(
        "the flat part of a tier is paid by every record",
        "sql/50_pricing.sql",
        "case when p_before <= v_from then v_tier.flat else 0 end",
        "v_tier.flat",
        PRICES,
    ),
    Fault(
        "the least specific price wins",
        "sql/50_pricing.sql",
        "     order by p.specificity desc\n",
        "     order by p.specificity\n",
        USAGE,
    ),
    Fault(
        "a late event takes today's price",
        "sql/51_usage.sql",
        "least(coalesce(p_occurred_at, v_at), v_at));",
        "v_at);",
        USAGE,
    ),
    Fault(
        "tiers of a period begin anew with every record",
        "sql/51_usage.sql",
        "pgsaas.usage_cost(v_price, p_quantity, v_before)",
        "pgsaas.usage_cost(v_price, p_quantity, 0)",
        USAGE,
    ),
    Fault(
        "an inactive event is charged",
        "sql/51_usage.sql",
        "    elsif not v_event.is_active then\n",
        "    elsif false then\n",
        USAGE,
    ),
    Fault(
        "a key of use is not compared with its dimensions",
        "sql/51_usage.sql",
        "(v_record.event_name, v_record.quantity, coalesce(v_record.dimensions, '{}'))\n"
        "           is distinct from (p_event, p_quantity, coalesce(p_dimensions, '{}'))",
        "(v_record.event_name, v_record.quantity) is distinct from (p_event, p_quantity)",
        USAGE,
    ),
    Fault(
        "a key of a query is not compared with its tools",
        "sql/51_usage.sql",
        "v_hash constant bytea := pgsaas.request_hash(variadic coalesce(p_tools, '{}'));",
        "v_hash constant bytea := '';",
        USAGE,
    ),
    Fault(
        "users state what their use costs",
        "sql/51_usage.sql",
        "    if p_cost is not null and not pgsaas.acts_as_system() then",
        "    if false then",
        MAY,
    ),
    Fault(
        "free use leaves no trace on the account's row",
        "sql/51_usage.sql",
        "    perform pgsaas.store_balance(p_b);\n    success := not p_b.is_frozen;",
        "    success := not p_b.is_frozen;",
        USAGE_RACES,
    ),
    Fault(
        "a batch of use records what was refused",
        "sql/51_usage.sql",
        "from numbered n join counted k using (account_id)\n         where n.success\n",
        "from numbered n join counted k using (account_id)\n",
        USAGE_BATCH,
    ),
    Fault(
        "a batch of use charges a key that it holds twice",
        "sql/51_usage.sql",
        "           and count(p.key) = count(distinct p.key)\n",
        "",
        USAGE_BATCH,
    ),
    Fault(
        "a batch of use charges a key that was used",
        "sql/51_usage.sql",
        "u.idempotency_key = any (array_agg(p.key))",
        "false",
        USAGE_BATCH,
    ),
    Fault(
        "statistics forget the last records",
        "sql/51_usage.sql",
        "               and u.usage_id > coalesce((",
        "               and false and u.usage_id > coalesce((",
        USAGE_BATCH,
    ),
    Fault(
        "statistics count records twice",
        "sql/51_usage.sql",
        "u.usage_id > v_from and u.usage_id <= v_to",
        "u.usage_id <= v_to",
        USAGE_BATCH,
    ),
    Fault(
        "users change what things cost",
        "sql/82_privileges.sql",
        "          ('admin', 'set_credit_event'),\n",
        "          ('admin app', 'set_credit_event'),\n",
        MATRIX,
    ),
]
