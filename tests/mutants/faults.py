"""The faults: which rule is broken, where, how, and which test must say so."""

from __future__ import annotations

from dataclasses import dataclass

GOLDEN = "tests/sql/test_golden_ledger.py"
ARCHIVE = "tests/sql/test_archive.py"
CONVENTIONS = "tests/schema/test_conventions.py"
MACHINE = (
    "tests/properties/test_ledger_machine.py::test_sql_and_model_agree_on_any_sequence_of_calls"
)
RACES = "tests/concurrency/test_races.py"
LOCKS = "tests/concurrency/test_locks.py"
SETTLEMENT = "tests/sql/test_settlement.py"
CLAWBACK = "tests/sql/test_clawback.py"
IDEMPOTENCY = "tests/sql/test_idempotency.py"
TRANSFERS = "tests/sql/test_transfers.py"
FACTS = "tests/sql/test_facts.py"
GUARD = "tests/sql/test_guard.py"
MATRIX = "tests/security/test_matrix.py"
TENANTS = "tests/security/test_tenants.py"
ROWS = "tests/security/test_row_security.py"
MAY = "tests/security/test_members_may.py"
MEMBERS = "tests/security/test_members.py"
MINTING = "tests/security/test_minting.py"
ATTACHED = "tests/security/test_attached.py"


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
        "v_is_over := v_i is not null and grants[v_i].expires_at <= v_at;",
        "v_is_over := false;",
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
        MACHINE,
    ),
    Fault(
        "a late refund lives for ever",
        "sql/29_settlement.sql",
        "v_ends := least(settled.next_reset_at, v_at +",
        "v_ends := greatest('infinity', v_at +",
        MACHINE,
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
    Fault(
        "account time runs backwards with the clock",
        "sql/30_ledger.sql",
        "v_at timestamptz := greatest(pgsaas.now(), p_b.last_at, p_not_before);",
        "v_at timestamptz := pgsaas.now();",
        SETTLEMENT,
    ),
    Fault(
        "a refund may exceed what was taken",
        "sql/34_refunds.sql",
        "elsif v_amount > -v_taken.amount - v_before or v_amount = 0 then",
        "elsif v_amount = 0 then",
        MINTING,
    ),
    Fault(
        "earlier refunds are forgotten",
        "sql/34_refunds.sql",
        "where t.account_id = p_account_id and t.ref_seq = p_seq"
        " and t.transaction_type = 'refund';",
        "where false;",
        MINTING,
    ),
    Fault(
        "what expired is taken once more",
        "sql/34_refunds.sql",
        "greatest(0, g.amount - g.revoked - g.moved - g.expired - g.remaining) as spent",
        "greatest(0, g.amount - g.revoked - g.moved - g.remaining) as spent",
        CLAWBACK,
    ),
    Fault(
        "overdraft that returns becomes credits for ever",
        "sql/29_settlement.sql",
        "v_pays := least(v_left, grants[v_payer].paid);",
        "v_pays := 0;",
        MINTING,
    ),
    Fault(
        "unrecovered credits are forgiven when they return",
        "sql/29_settlement.sql",
        "if grants[v_i].unrecovered > 0 then",
        "if false then",
        CLAWBACK,
    ),
    Fault(
        "frozen accounts may be charged",
        "sql/31_deductions.sql",
        "    if v_b.is_frozen then\n        error_code := 'ACCOUNT_FROZEN';",
        "    if false then\n        error_code := 'ACCOUNT_FROZEN';",
        "tests/sql/test_lifecycle.py",
    ),
    Fault(
        "a charge may exceed what is available",
        "sql/31_deductions.sql",
        "elsif pgsaas.available(v_b) < p_amount then",
        "elsif false then",
        RACES,
    ),
    Fault(
        "the account is read without its lock",
        "sql/30_ledger.sql",
        "where b.account_id = p_account_id\n        for no key update;",
        "where b.account_id = p_account_id;",
        LOCKS,
    ),
    Fault(
        "several accounts are locked in the order they were given",
        "sql/30_ledger.sql",
        "order by b.account_id for no key update)",
        "order by array_position(p_account_ids, b.account_id) for no key update)",
        LOCKS,
    ),
    Fault(
        "a replay charges again",
        "sql/30_ledger.sql",
        "p_found := coalesce(p_found, false);",
        "p_found := false;",
        IDEMPOTENCY,
    ),
    Fault(
        "another request under a key is answered with the first",
        "sql/30_ledger.sql",
        "if p_found and v_hash is distinct from p_hash then",
        "if false then",
        IDEMPOTENCY,
    ),
    Fault(
        "a hash depends on the session's interval style",
        "sql/33_holds.sql",
        "extract(epoch from v_ttl)::text",
        "p_ttl::text",
        IDEMPOTENCY,
    ),
    Fault(
        "young purchases may be transferred",
        "sql/35_transfers.sql",
        "where g.source = 'bonus' or (g.source = 'purchase' and g.acquired_at <= v_bought_before);",
        "where g.source in ('bonus', 'purchase');",
        TRANSFERS,
    ),
    Fault(
        "a transfer forgets where the credits came from",
        "sql/35_transfers.sql",
        "v_child.root_grant_id := coalesce(v_grant.root_grant_id, v_grant.grant_id);",
        "v_child.root_account_id := null;",
        TRANSFERS,
    ),
    Fault(
        "a low balance is told nobody",
        "sql/30_ledger.sql",
        "if v_was >= p_b.low_balance_at then",
        "if false then",
        FACTS,
    ),
    Fault(
        "the ledger may be changed",
        "sql/80_triggers.sql",
        "raise exception 'the ledger is append-only' using errcode = 'PT403';",
        "return coalesce(new, old);",
        GUARD,
    ),
    Fault(
        "end users may grant credits",
        "sql/82_privileges.sql",
        "('app user', 'act_as'),",
        "('app user', 'act_as add_credits'),",
        MATRIX,
    ),
    Fault(
        "the salt can be read",
        "sql/82_privileges.sql",
        "and a.attname <> 'salt'",
        "",
        MATRIX,
    ),
    Fault(
        "end users see every row of a table",
        "sql/81_policies.sql",
        "('credit_grants',         v_mine,",
        "('credit_grants',         'true',",
        ROWS,
    ),
    Fault(
        "claims do not narrow the backend",
        "sql/12_identity.sql",
        "p_is_system := v_acting is null;",
        "p_is_system := true;",
        TENANTS,
    ),
    Fault(
        "two sources that differ mean the claims",
        "sql/12_identity.sql",
        "if p_user_id <> v_acting then",
        "if false then",
        TENANTS,
    ),
    Fault(
        "an act_as of an earlier transaction counts",
        "sql/12_identity.sql",
        "select pg_catalog.pg_backend_pid() || '/' || extract(epoch",
        "select 'x' || 0 * extract(epoch",
        TENANTS,
    ),
    Fault(
        "every member may spend",
        "sql/12_identity.sql",
        "when 'spend' then p_role in ('owner', 'admin', 'member')",
        "when 'spend' then p_role in ('owner', 'admin', 'member', 'billing')",
        MAY,
    ),
    Fault(
        "the last owner may go",
        "sql/20_accounts.sql",
        "    perform pgsaas.check_not_last_owner(p_account_id, p_user_id);\n    delete",
        "    delete",
        MEMBERS,
    ),
    Fault(
        "a name that looks like an account id owns that account",
        "sql/12_identity.sql",
        "if not found and p_user_id ~*",
        "if p_user_id ~*",
        ATTACHED,
    ),
    Fault(
        "an erased person gets the first allowance again",
        "sql/54_lifecycle.sql",
        "where e.subject_hash = any",
        "where false and e.subject_hash = any",
        "tests/sql/test_lifecycle.py",
    ),
]
