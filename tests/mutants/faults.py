"""The faults: which rule is broken, where, how, and which test must say so."""

from __future__ import annotations

from dataclasses import dataclass

GOLDEN = "tests/sql/test_golden_ledger.py"
ARCHIVE = "tests/sql/test_archive.py"
CONVENTIONS = "tests/schema/test_conventions.py"


@dataclass(frozen=True, slots=True)
class Fault:
    """`old` stands once in `file` and becomes `new`; `test` must then fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


FAULTS = [
    Fault(
        "a charge does not look whether something is due",
        "sql/31_deductions.sql",
        "b.head_left - p_amount > b.head_floor\n"
        "       and b.next_change_at > greatest(b.last_at, pgsaas.now())",
        "b.head_left - p_amount > b.head_floor",
        GOLDEN,
    ),
    Fault(
        "what returns to an expired grant is free again",
        "sql/29_settlement.sql",
        "elsif v_i is not null and grants[v_i].expires_at > v_at then",
        "elsif v_i is not null then",
        GOLDEN,
    ),
    Fault(
        "everything rolls over",
        "sql/29_settlement.sql",
        "v_left := least(v_free, settled.rollover_limit);",
        "v_left := v_free;",
        GOLDEN,
    ),
    Fault(
        "a period is counted from the end of the one before",
        "sql/29_settlement.sql",
        "settled.next_reset_at := pgsaas.period_end(settled.period_anchor,\n"
        "                settled.period_count + 1);",
        "settled.next_reset_at := pgsaas.period_end(settled.next_reset_at, 1);",
        GOLDEN,
    ),
    Fault(
        "a refund gives the first-burned part back first",
        "sql/34_refunds.sql",
        "jsonb_agg(x.part order by x.n desc)",
        "jsonb_agg(x.part order by x.n)",
        GOLDEN,
    ),
    Fault(
        "a late refund lives for ever",
        "sql/29_settlement.sql",
        "if v_i is not null then\n                    v_ends",
        "if false then\n                    v_ends",
        GOLDEN,
    ),
    Fault(
        "new credits do not pay what is owed",
        "sql/30_ledger.sql",
        "case when p_pending_until is null then least(p_amount, p_b.owed) else 0 end;",
        "0;",
        GOLDEN,
    ),
    Fault(
        "the youngest of equal grants burns first",
        "sql/30_ledger.sql",
        "g.source_rank, g.expires_at, g.grant_id\n$$;",
        "g.source_rank, g.expires_at, g.grant_id desc\n$$;",
        GOLDEN,
    ),
    Fault(
        "an upgrade grants the whole new allowance",
        "sql/36_periods.sql",
        "v_more numeric := p_allowance - v_b.allowance;",
        "v_more numeric := p_allowance;",
        GOLDEN,
    ),
    Fault(
        "a charge forgets archived keys",
        "sql/31_deductions.sql",
        "b.archived_seq = 0, true, false",
        "true, true, false",
        ARCHIVE,
    ),
    Fault(
        "archiving forgets the keys",
        "sql/40_archive.sql",
        "t.seq <= v_last.seq and t.idempotency_key is not null;",
        "t.seq <= v_last.seq and false;",
        ARCHIVE,
    ),
    Fault(
        "the checkpoint forgets what an earlier one counted",
        "sql/40_archive.sql",
        "coalesce(v_old.not_spent, 0) + ",
        "",
        ARCHIVE,
    ),
    Fault(
        "a definer keeps the caller's search path",
        "sql/34_refunds.sql",
        "language plpgsql volatile security definer set search_path = '' rows 1\nas $$\n"
        "#variable_conflict use_column\ndeclare\n    v_b pgsaas.account_balances;\n    v_taken",
        "language plpgsql volatile security definer rows 1\nas $$\n"
        "#variable_conflict use_column\ndeclare\n    v_b pgsaas.account_balances;\n    v_taken",
        CONVENTIONS,
    ),
    Fault(
        "row security is off on one table",
        "migrations/0003-credits.sql",
        "alter table pgsaas.credit_holds enable row level security;\n",
        "",
        CONVENTIONS,
    ),
]
