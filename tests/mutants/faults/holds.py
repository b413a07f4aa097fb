"""Faults of holds."""

from __future__ import annotations

from tests.mutants.fault import (
    GOLDEN,
    IDEMPOTENCY,
    MINTING,
    RACES,
    RANDOM,
    Fault,
)

HOLDS_FAULTS = [
    Fault(
        "a hash depends on the session's interval style",
        "sql/33_holds.sql",
        "extract(epoch from v_ttl)::text",
        "p_ttl::text",
        IDEMPOTENCY,
    ),
    Fault(
        "a hold forgets that it holds",
        "sql/33_holds.sql",
        "        v_b.held := v_b.held + p_amount;\n",
        "",
        GOLDEN,
    ),
    Fault(
        "a closed hold may be captured again",
        "sql/33_holds.sql",
        "    elsif v_hold.state <> 'open' then\n"
        "        error_code := 'HOLD_CLOSED';\n"
        "        error_message := 'the hold is ' || v_hold.state;\n"
        "    elsif v_excess",
        "    elsif v_excess",
        "tests/sql/test_bad_holds.py",
    ),
    Fault(
        "a heartbeat shortens the hold",
        "sql/33_holds.sql",
        "set expires_at = greatest(h.expires_at, v_b.last_at + v_ttl)",
        "set expires_at = v_b.last_at + v_ttl",
        RANDOM,
    ),
    Fault(
        "a frozen account is emptied through a hold",
        "sql/33_holds.sql",
        "elsif v_excess > 0 and v_b.is_frozen and p_shortfall = 'refuse' then",
        "elsif false then",
        "tests/sql/test_lifecycle.py",
    ),
    Fault(
        "a frozen account may hold",
        "sql/33_holds.sql",
        "    if v_b.is_frozen then\n"
        "        error_code := 'ACCOUNT_FROZEN';\n"
        "        error_message := 'the account is frozen';\n"
        "    elsif pgsaas.available(v_b) < p_amount and not pgsaas.is_shadow() then",
        "    if pgsaas.available(v_b) < p_amount and not pgsaas.is_shadow() then",
        "tests/sql/test_lifecycle.py",
    ),
    Fault(
        "a hold may exceed what is available",
        "sql/33_holds.sql",
        "    elsif pgsaas.available(v_b) < p_amount and not pgsaas.is_shadow() then",
        "    elsif false then",
        RACES,
    ),
    Fault(
        "a partial capture goes into debt",
        "sql/33_holds.sql",
        "                else least(v_excess, pgsaas.available(v_b)) end;",
        "                else v_excess end;",
        "tests/sql/test_bad_holds.py",
    ),
    Fault(
        "users put their account into debt",
        "sql/33_holds.sql",
        "    if p_shortfall = 'debt' and not pgsaas.acts_as_system() then",
        "    if false then",
        MINTING,
    ),
    Fault(
        "a released hold keeps the credits",
        "sql/33_holds.sql",
        "        v_b := pgsaas.settle_account(v_b, v_hold.allocations, p_hold_id);\n",
        "",
        RANDOM,
    ),
    Fault(
        "the rest of a capture is lost",
        "sql/33_holds.sql",
        "        elsif v_split.p_rest <> '[]' then",
        "        elsif false then",
        RANDOM,
    ),
    Fault(
        "the rest of a capture is lost where it returns to the head",
        "sql/33_holds.sql",
        "v_b.head_left := v_b.head_left + v_hold.amount - captured;",
        "null;",
        RANDOM,
    ),
    Fault(
        "what is released returns to the head, whoever it was taken from",
        "sql/33_holds.sql",
        "(p_hold.allocations -> 0 ->> 0)::bigint = p_b.head_grant_id",
        "p_b.head_grant_id is not null",
        RANDOM,
    ),
    Fault(
        "a hold ends without a look at what is due",
        "sql/33_holds.sql",
        "p_hold.state = 'open' and pgsaas.is_settled(p_b)",
        "p_hold.state = 'open'",
        RANDOM,
    ),
    Fault(
        "a hold of the head lapses unnoticed",
        "sql/33_holds.sql",
        "        v_b.next_change_at := least(v_b.next_change_at, expires_at);\n",
        "",
        RANDOM,
    ),
    Fault(
        "a hold takes from the head what is due",
        "sql/33_holds.sql",
        "v_b.head_left - p_amount > v_b.head_floor and pgsaas.is_settled(v_b)",
        "v_b.head_left - p_amount > v_b.head_floor",
        RANDOM,
    ),
    Fault(
        "a hold that crosses the low balance tells nobody",
        "sql/33_holds.sql",
        "v_is_head := v_b.head_left - p_amount > v_b.head_floor",
        "v_is_head := v_b.head_left > p_amount",
        "tests/sql/test_facts.py",
    ),
    Fault(
        "credits that return leave the alert of a low balance where it was",
        "sql/30_ledger.sql",
        "           head_floor = pgsaas.head_floor(p_b), held",
        "           held",
        "tests/sql/test_facts.py",
    ),
    Fault(
        "a hold lasts as long as it likes",
        "sql/33_holds.sql",
        " or extract(epoch from p_ttl) > 86400 then",
        " then",
        "tests/sql/test_bad_holds.py",
    ),
]
