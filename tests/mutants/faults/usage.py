"""Faults of prices and of use."""

from __future__ import annotations

from tests.mutants.fault import MATRIX, MAY, PRICES, USAGE, USAGE_BATCH, USAGE_RACES, Fault

USAGE_FAULTS = [
    Fault(
        "a cost is rounded down",
        "sql/46_pricing.sql",
        "(div(v_top, v_size) + (mod(v_top, v_size) > 0)::integer) * 0.000001",
        "div(v_top, v_size) * 0.000001",
        PRICES,
    ),
    Fault(
        "a package that is rounded up is not",
        "sql/46_pricing.sql",
        "(p_price.package_rounding = 'up'",
        "(false",
        PRICES,
    ),
    Fault(
        "a tier ends before its last unit",
        "sql/46_pricing.sql",
        "if p_price.price_model = 'volume' and v_to = p_before + p_quantity then",
        "if p_price.price_model = 'volume' and v_to = p_before + p_quantity"
        " and (v_tier.up_to <> v_to) is not false then",
        PRICES,
    ),
    Fault(
        "the flat part of a tier is paid by every record",
        "sql/46_pricing.sql",
        "case when p_before <= v_from then v_tier.flat else 0 end",
        "v_tier.flat",
        PRICES,
    ),
    Fault(
        "the least specific price wins",
        "sql/46_pricing.sql",
        "     order by p.specificity desc\n",
        "     order by p.specificity\n",
        USAGE,
    ),
    Fault(
        "a late event takes today's price",
        "sql/50_usage.sql",
        "           least(coalesce(p_occurred_at, pgsaas.now()), pgsaas.now())) p on "
        "p_cost is null",
        "           pgsaas.now()) p on p_cost is null",
        USAGE,
    ),
    Fault(
        "a late event in a batch takes today's price",
        "sql/46_pricing.sql",
        "coalesce(u.occurred_at, v_now) as occurred_at",
        "v_now as occurred_at",
        USAGE_BATCH,
    ),
    Fault(
        "tiers of a period begin anew with every record",
        "sql/50_usage.sql",
        "pgsaas.usage_cost(v_found.p_price, p_record.quantity, v_before)",
        "pgsaas.usage_cost(v_found.p_price, p_record.quantity, 0)",
        USAGE,
    ),
    Fault(
        "tiers of a period count what was refused",
        "sql/50_usage.sql",
        "    cost := v_record.cost;\n    if success then\n",
        "    cost := v_record.cost;\n    if success or error_code = 'INSUFFICIENT_CREDITS' then\n",
        USAGE,
    ),
    Fault(
        "an inactive event is charged",
        "sql/50_usage.sql",
        "     where e.event_name = p_event and e.is_active;",
        "     where e.event_name = p_event;",
        USAGE,
    ),
    Fault(
        "an inactive event is charged in a batch",
        "sql/46_pricing.sql",
        "               and e.is_active and coalesce(p.tier_scope",
        "               and coalesce(p.tier_scope",
        USAGE_BATCH,
    ),
    Fault(
        "a dimension that the event does not have is charged",
        "sql/50_usage.sql",
        "and v_priced.cost <= 1000000000000 and v_priced.is_known then",
        "and v_priced.cost <= 1000000000000 then",
        USAGE,
    ),
    Fault(
        "a key of use is not compared with its dimensions",
        "sql/50_usage.sql",
        "       and coalesce(p_record.dimensions, '{}') = coalesce(p_dimensions, '{}')\n",
        "",
        USAGE,
    ),
    Fault(
        "a key of use that is used again is charged again",
        "sql/50_usage.sql",
        "               set balance = b.balance + cost, head_left = b.head_left + cost, "
        "seq = b.seq - 1,",
        "               set balance = b.balance, head_left = b.head_left, seq = b.seq - 1,",
        USAGE,
    ),
    Fault(
        "a record is charged beyond the head",
        "sql/50_usage.sql",
        "b.head_left - v_priced.cost > b.head_floor",
        "b.head_left > b.head_floor",
        USAGE,
    ),
    Fault(
        "a record spends what has expired",
        "sql/50_usage.sql",
        "           and b.next_change_at > greatest(b.last_at, pgsaas.now())\n"
        "        returning b.seq, b.balance, b.balance - b.held",
        "        returning b.seq, b.balance, b.balance - b.held",
        USAGE,
    ),
    Fault(
        "a key of a query is not compared with its tools",
        "sql/52_usage_forms.sql",
        "v_hash constant bytea := pgsaas.request_hash(variadic coalesce(p_tools, '{}'));",
        "v_hash constant bytea := '';",
        USAGE,
    ),
    Fault(
        "users state what their use costs",
        "sql/50_usage.sql",
        "        elsif p_cost is not null and not pgsaas.acts_as_system() then",
        "        elsif false then",
        MAY,
    ),
    Fault(
        "who may not spend records use",
        "sql/50_usage.sql",
        "        if not pgsaas.may(p_account_id, 'spend') then",
        "        if false then",
        MAY,
    ),
    Fault(
        "free use leaves no trace on the account's row",
        "sql/50_usage.sql",
        "    perform pgsaas.store_balance(p_b);\n    success := not p_b.is_frozen;",
        "    success := not p_b.is_frozen;",
        USAGE_RACES,
    ),
    Fault(
        "a batch of use records what was refused",
        "sql/51_usage_batch.sql",
        "                  from items i where i.success)",
        "                  from items i)",
        USAGE_BATCH,
    ),
    Fault(
        "a batch of use charges a key that it holds twice",
        "sql/51_usage_batch.sql",
        "        having bool_and(i.is_good is true) and count(i.key) = count(distinct i.key)),",
        "        having bool_and(i.is_good is true)),",
        USAGE_BATCH,
    ),
    Fault(
        "a batch of use charges a key that was used",
        "sql/51_usage_batch.sql",
        "                               is null as is_good",
        "                               is not distinct from null or true as is_good",
        USAGE_BATCH,
    ),
    Fault(
        "a batch of use charges beyond the head",
        "sql/51_usage_batch.sql",
        "b.head_left - f.amount > b.head_floor",
        "b.head_left > b.head_floor",
        USAGE_BATCH,
    ),
    Fault(
        "a batch answers another request by the record of its key",
        "sql/51_usage_batch.sql",
        "pgsaas.is_same_usage(r.record,\n"
        "                           i.event, i.quantity, i.dimensions, i.occurred_at, i.cost)",
        "(r.record).usage_id is not null",
        USAGE_BATCH,
    ),
    Fault(
        "statistics forget the last records",
        "sql/53_usage_stats.sql",
        "               and u.usage_id > coalesce((",
        "               and false and u.usage_id > coalesce((",
        USAGE_BATCH,
    ),
    Fault(
        "statistics count records twice",
        "sql/50_usage.sql",
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
