"""The faults: which rule is broken, where, how, and which test must say so."""

from __future__ import annotations

from dataclasses import dataclass

GOLDEN = "tests/sql/test_golden_ledger.py"
ARCHIVE = "tests/sql/test_archive.py"
CONVENTIONS = "tests/schema/test_conventions.py"
MACHINE = (
    "tests/properties/test_ledger_machine.py::test_sql_and_model_agree_on_any_sequence_of_calls"
)
RANDOM = "tests/properties/test_random_calls.py"
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
REFUNDS = "tests/sql/test_refunds.py"
BATCH = "tests/sql/test_batch.py"
VERIFY = "tests/sql/test_verify.py"
READS = "tests/sql/test_reads.py"
LOAD = "tests/schema/test_install_load.py"
UNINSTALL = "tests/schema/test_install_uninstall.py"
RESTORED = "tests/security/test_restored.py"
ROLES = "tests/schema/test_install_roles.py"
CLI = "tests/python/test_cli.py"
CREDITS = "tests/cli/test_credits.py"
DOCTOR = "tests/cli/test_doctor.py"


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
        "sql/28_returns.sql",
        "v_is_over constant boolean := p_grant.expires_at < p_at\n"
        "        or p_grant.expires_at = p_at and p_what <> 'lapse';",
        "v_is_over constant boolean := false;",
        GOLDEN,
    ),
    Fault(
        "everything rolls over",
        "sql/29_settlement.sql",
        "v_amount := least(p_grants[v_i].remaining, v_left);",
        "v_amount := p_grants[v_i].remaining + 0 * coalesce(v_left, 0);",
        GOLDEN,
    ),
    Fault(
        "a period is counted from the end of the one before",
        "sql/29_settlement.sql",
        "p_b.next_reset_at := pgsaas.period_end(p_b.period_anchor, p_b.period_count + 1);",
        "p_b.next_reset_at := pgsaas.period_end(p_b.next_reset_at, 1);",
        GOLDEN,
    ),
    Fault(
        "a refund gives the first-burned part back first",
        "sql/34_refunds.sql",
        "jsonb_agg(x.part order by x.n desc)",
        "jsonb_agg(x.part order by x.n)",
        REFUNDS,
    ),
    Fault(
        "a late refund lives for ever",
        "sql/28_returns.sql",
        "v_ends := least(p_b.next_reset_at, p_at +",
        "v_ends := greatest('infinity', p_at +",
        REFUNDS,
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
        "v_more := p_allowance - v_b.period_granted;",
        "v_more := p_allowance;",
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
        "row security that was switched off stays off",
        "sql/81_policies.sql",
        "and not c.relrowsecurity and c.relname",
        "and false and c.relname",
        RESTORED,
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
        "sql/28_returns.sql",
        "v_part := least(nobody_paid, p_grants[v_i].paid);",
        "v_part := 0;",
        MINTING,
    ),
    Fault(
        "unrecovered credits are forgiven when they return",
        "sql/28_returns.sql",
        "if p_grant.unrecovered > 0 then",
        "if false then",
        CLAWBACK,
    ),
    Fault(
        "frozen accounts may be charged",
        "sql/31_deductions.sql",
        "elsif v_b.is_frozen then",
        "elsif false then",
        "tests/sql/test_lifecycle.py",
    ),
    Fault(
        "a charge may exceed what is available",
        "sql/31_deductions.sql",
        "elsif available < v_item.amount then",
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
        "g.source = 'purchase' and g.acquired_at <= p_bought_before",
        "g.source = 'purchase'",
        TRANSFERS,
    ),
    Fault(
        "a transfer forgets where the credits came from",
        "sql/35_transfers.sql",
        "coalesce((p.g).root_grant_id, (p.g).grant_id), p.amount > p.pays,",
        "null, p.amount > p.pays,",
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
    Fault(
        "what a capture took beyond its hold was taken with the hold",
        "sql/34_refunds.sql",
        "greatest(0, -v_taken.amount - coalesce(v_hold.amount, 0) - v_before)",
        "case when v_hold.hold_id is null then -v_taken.amount else 0 end",
        REFUNDS,
    ),
    Fault(
        "an allowance that goes round in circles is granted each time",
        "sql/36_periods.sql",
        "        v_b.period_granted := p_allowance;\n        v_b := pgsaas.open_grant",
        "        v_b := pgsaas.open_grant",
        SETTLEMENT,
    ),
    Fault(
        "a new period forgets what the highest allowance was",
        "sql/29_settlement.sql",
        "    p_b.period_granted := p_b.allowance;\n",
        "",
        SETTLEMENT,
    ),
    Fault(
        "a batch charges a key twice that it holds twice",
        "sql/31_deductions.sql",
        "            v_row_of_key[v_item.key_no] := cardinality(v_rows);\n",
        "",
        RANDOM,
    ),
    Fault(
        "a batch charges keys that are in the ledger",
        "sql/31_deductions.sql",
        "and t.key_scope = 'd') is null as is_good",
        "and false) is null as is_good",
        RANDOM,
    ),
    Fault(
        "a batch spends what is held back for the alert",
        "sql/31_deductions.sql",
        "b.head_left - f.amount > b.head_floor",
        "b.head_left - f.amount > 0",
        FACTS,
    ),
    Fault(
        "a batch does not look whether something is due",
        "sql/31_deductions.sql",
        "           and b.next_change_at > greatest(b.last_at, pgsaas.now())\n"
        "           and (b.archived_seq",
        "           and (b.archived_seq",
        RANDOM,
    ),
    Fault(
        "a batch forgets archived keys",
        "sql/31_deductions.sql",
        "           and (b.archived_seq = 0 or f.n_keys = 0)\n",
        "",
        ARCHIVE,
    ),
    Fault(
        "a charge below zero is taken for one",
        "sql/31_deductions.sql",
        "    if p_amount <= 0 or p_amount > 1000000000000",
        "    if p_amount > 1000000000000",
        "tests/sql/test_bad_amounts.py",
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
        "a revocation does not follow transfers",
        "sql/34_refunds.sql",
        "or (g.root_account_id = p_account_id and g.root_grant_id = p_grant_id)),\n",
        "),\n",
        TRANSFERS,
    ),
    Fault(
        "what the receiver of a transfer owes is not paid",
        "sql/35_transfers.sql",
        "greatest(0, least(x.movable, p_amount - x.before, v_to.owed - x.before)) as pays",
        "0::numeric as pays",
        TRANSFERS,
    ),
    Fault(
        "a transfer settles each account at its own time",
        "sql/35_transfers.sql",
        "pgsaas.settle_account(v_from, p_not_before => v_to.last_at);",
        "pgsaas.settle_account(v_from);",
        TRANSFERS,
    ),
    Fault(
        "users may transfer to strangers",
        "sql/35_transfers.sql",
        "and not (pgsaas.may(p_from, 'pay') and pgsaas.may(p_to, 'read')) then",
        "and not pgsaas.may(p_from, 'pay') then",
        "tests/security/test_foreign_accounts.py",
    ),
    Fault(
        "anybody adjusts credits",
        "sql/32_credits.sql",
        "    perform pgsaas.check_administers();\n    perform pgsaas.check_reason(p_reason);\n"
        "    p_amount := sign",
        "    perform pgsaas.check_reason(p_reason);\n    p_amount := sign",
        "tests/security/test_members_may.py",
    ),
    Fault(
        "an adjustment is not audited",
        "sql/32_credits.sql",
        "        perform pgsaas.audit('credits.adjusted', p_account_id,\n"
        "            jsonb_build_object('seq', seq, 'amount', p_amount, 'reason', p_reason));\n",
        "",
        FACTS,
    ),
    Fault(
        "a view shows with its owner's rights",
        "sql/39_views.sql",
        "create or replace view pgsaas.credit_balances with (security_invoker = true) as",
        "create or replace view pgsaas.credit_balances as",
        TENANTS,
    ),
    Fault(
        "a view shows the stale head",
        "sql/29_settlement.sql",
        "        if v_grants[v_i].grant_id = p_b.head_grant_id then\n"
        "            v_grants[v_i].remaining := p_b.head_left;",
        "        if v_grants[v_i].grant_id = p_b.head_grant_id then\n"
        "            v_grants[v_i].remaining := v_grants[v_i].remaining;",
        READS,
    ),
    Fault(
        "a balance does not show what is due",
        "sql/37_reads.sql",
        "         where b.account_id = p_account_id and b.next_change_at > "
        "greatest(pgsaas.now(), b.last_at);",
        "         where b.account_id = p_account_id;",
        READS,
    ),
    Fault(
        "verification overlooks credits that a transfer lost",
        "sql/38_verify.sql",
        "where g.root_grant_id is null and g.moved <> coalesce(e.amount, 0)",
        "where false",
        VERIFY,
    ),
    Fault(
        "a load leaves what no file makes",
        "pgsaas/install/loader.py",
        'yield f"sql/{room.name}", room.text\n    if not checked:\n'
        '        yield "functions and views were all rewritten", CHECK_REWRITTEN\n'
        '    yield "triggers and policies are all declared", CHECK_DECLARED\n',
        'yield f"sql/{room.name}", room.text\n',
        LOAD,
    ),
    Fault(
        "a load waits for a lock as long as it takes",
        "pgsaas/install/loader.py",
        "set local lock_timeout = '5s';\nset local statement_timeout = 0;",
        "set local statement_timeout = 0;",
        LOAD,
    ),
    Fault(
        "a load puts the real clock under a test",
        "pgsaas/install/loader.py",
        "    if v_is_set then\n",
        "    if false then\n",
        LOAD,
    ),
    Fault(
        "what the host granted stays after a load",
        "sql/82_privileges.sql",
        "where g.grantee <> g.owner and not exists (",
        "where false and not exists (",
        RESTORED,
    ),
    Fault(
        "uninstalling takes roles from sibling databases",
        "pgsaas/install/removal.py",
        "        if in_use:\n            done.roles_kept[role] = in_use[0]\n",
        "",
        UNINSTALL,
    ),
    Fault(
        "uninstalling takes what the application made of ours with it",
        "pgsaas/install/removal.py",
        "    if dependents and not force:",
        "    if False:",
        UNINSTALL,
    ),
    Fault(
        "a refusal exits as a success",
        "pgsaas/cli/output.py",
        "({answer['error_code']})\", ERROR)\n            return 1",
        "({answer['error_code']})\", ERROR)\n            return 0",
        CREDITS,
    ),
    Fault(
        "status is content with pending migrations",
        "pgsaas/cli/migrate.py",
        "return 0 if found.current else 3",
        "return 0",
        CLI,
    ),
    Fault(
        "a function that acts as somebody else is no drift",
        "pgsaas/install/loader.py",
        "p.prosrc, p.prosecdef, p.proconfig, p.provolatile)",
        "p.prosrc, p.proconfig, p.provolatile)",
        DOCTOR,
    ),
    Fault(
        "a function changed by hand stays after a load",
        "pgsaas/install/loader.py",
        "and is_loaded(conn, resources) and not changed_objects(conn):",
        "and is_loaded(conn, resources):",
        DOCTOR,
    ),
    Fault(
        "a privilege granted by hand is no drift",
        "pgsaas/install/loader.py",
        "        where c.relnamespace = 'pgsaas'::pg_catalog.regnamespace and c.relname !~ 'yoyo'\n"
        "        union all\n        select c.oid::pg_catalog.regclass::text || '.'",
        "        where false\n"
        "        union all\n        select c.oid::pg_catalog.regclass::text || '.'",
        DOCTOR,
    ),
    Fault(
        "a guard that was switched off stays off",
        "sql/80_triggers.sql",
        "and t.tgname = v_wanted.name and t.tgenabled not in ('O', 'A')",
        "and t.tgname = v_wanted.name and false",
        DOCTOR,
    ),
    Fault(
        "attaching with another address column leaves the addresses",
        "sql/55_attachments.sql",
        "if v_email_attnum is not null and v_email_attnum is distinct from v_email_before then",
        "if false then",
        "tests/sql/test_attach.py",
    ),
    Fault(
        "attaching again overwrites addresses",
        "sql/55_attachments.sql",
        "if v_email_attnum is not null and v_email_attnum is distinct from v_email_before then",
        "if v_email_attnum is not null then",
        "tests/sql/test_attach.py",
    ),
    Fault(
        "a late refund forgets where the credits came from",
        "sql/27_grants.sql",
        "            p_old.moved := p_old.moved + v_moving;\n",
        "",
        CLAWBACK,
    ),
    Fault(
        "what rolled over cannot be found",
        "sql/27_grants.sql",
        "            v_new.root_grant_id := coalesce(p_old.root_grant_id, p_old.grant_id);\n",
        "",
        CLAWBACK,
    ),
    Fault(
        "what was revoked while held expires as well",
        "sql/28_returns.sql",
        "v_part := least(v_left, greatest(0, p_grant.amount - p_grant.revoked - p_grant.moved\n"
        "            - p_grant.expired - p_grant.remaining));",
        "v_part := v_left;",
        CLAWBACK,
    ),
    Fault(
        "a frozen account is emptied through a hold",
        "sql/33_holds.sql",
        "elsif v_excess > 0 and v_b.is_frozen and p_shortfall = 'refuse' then",
        "elsif false then",
        "tests/sql/test_lifecycle.py",
    ),
    Fault(
        "the key of a revocation is on its first row",
        "sql/34_refunds.sql",
        "case when v_part.is_last then p_key end",
        "case when p_seq is null then p_key end",
        CLAWBACK,
    ),
    Fault(
        "a hold that lapsed keeps what it held",
        "sql/29_settlement.sql",
        "settled.held := settled.held - (select sum((x ->> 1)::numeric)",
        "settled.held := settled.held - 0 * (select sum((x ->> 1)::numeric)",
        SETTLEMENT,
    ),
    Fault(
        "credits count before their time",
        "sql/32_credits.sql",
        "    if p_effective_at > v_b.last_at then\n",
        "    if false then\n",
        SETTLEMENT,
    ),
    Fault(
        "credits that take effect pay nothing of what is owed",
        "sql/29_settlement.sql",
        "v_pays constant numeric := least(p_grant.remaining, p_b.owed);",
        "v_pays constant numeric := 0;",
        CLAWBACK,
    ),
    Fault(
        "priorities count for nothing",
        "sql/30_ledger.sql",
        "order by g.priority, case when p_burn_order",
        "order by case when p_burn_order",
        RANDOM,
    ),
    Fault(
        "the burn order cannot be switched",
        "sql/30_ledger.sql",
        "case when p_burn_order = 'expiring_first' then g.expires_at end,\n",
        "case when false then g.expires_at end,\n",
        RANDOM,
    ),
    Fault(
        "overdraft is owed by nobody",
        "sql/30_ledger.sql",
        "    p_b.owed := p_b.owed + v_owed;\n",
        "",
        RANDOM,
    ),
    Fault(
        "a frozen account may hold",
        "sql/33_holds.sql",
        "    if v_b.is_frozen then\n"
        "        error_code := 'ACCOUNT_FROZEN';\n"
        "        error_message := 'the account is frozen';\n"
        "    elsif pgsaas.available(v_b) < p_amount then",
        "    if pgsaas.available(v_b) < p_amount then",
        "tests/sql/test_lifecycle.py",
    ),
    Fault(
        "a hold may exceed what is available",
        "sql/33_holds.sql",
        "    elsif pgsaas.available(v_b) < p_amount then",
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
        "        if v_split.p_rest <> '[]' then",
        "        if false then",
        RANDOM,
    ),
    Fault(
        "keys of one function block those of another",
        "sql/30_ledger.sql",
        "where t.account_id = p_b.account_id and t.idempotency_key = p_key and t.key_scope "
        "= p_scope;",
        "where t.account_id = p_b.account_id and t.idempotency_key = p_key;",
        IDEMPOTENCY,
    ),
    Fault(
        "an adjustment takes more than is free",
        "sql/32_credits.sql",
        "    if -p_amount > v_b.balance - v_b.held + v_b.owed then",
        "    if false then",
        RANDOM,
    ),
    Fault(
        "an allowance may be transferred",
        "sql/35_transfers.sql",
        "(g.source = 'bonus' or (g.source = 'purchase' and g.acquired_at <= p_bought_before))",
        "(g.source <> 'purchase' or g.acquired_at <= p_bought_before)",
        TRANSFERS,
    ),
    Fault(
        "frozen accounts may transfer",
        "sql/35_transfers.sql",
        "    if v_from.is_frozen or v_to.is_frozen then",
        "    if false then",
        "tests/sql/test_lifecycle.py",
    ),
    Fault(
        "refunds do not lower what was spent",
        "sql/30_ledger.sql",
        "not in ('deduction', 'capture', 'refund') then",
        "not in ('deduction', 'capture') then",
        RANDOM,
    ),
    Fault(
        "nobody looks when a hold lapses",
        "sql/30_ledger.sql",
        "        (select min(h.expires_at) from pgsaas.credit_holds h\n"
        "          where h.account_id = p_b.account_id and h.state = 'open')) end;",
        "        'infinity') end;",
        SETTLEMENT,
    ),
    Fault(
        "nobody looks when credits take effect",
        "sql/30_ledger.sql",
        "        (select min(g.effective_at) from pgsaas.credit_grants g\n"
        "          where g.account_id = p_b.account_id and g.is_pending),\n",
        "",
        SETTLEMENT,
    ),
    Fault(
        "a transfer locks its giver first",
        "sql/35_transfers.sql",
        "    perform pgsaas.lock_in_order(array[p_from, p_to]);\n",
        "",
        LOCKS,
    ),
    Fault(
        "an amount may have seven decimals",
        "sql/10_errors.sql",
        "       or p_amount <> round(p_amount, 6) then",
        "       or false then",
        "tests/sql/test_bad_amounts.py",
    ),
    Fault(
        "metadata may be of any size",
        "sql/10_errors.sql",
        "octet_length(p_metadata::text) > 16384 then",
        "false then",
        "tests/sql/test_bad_texts.py",
    ),
    Fault(
        "a live installation has a test clock",
        "sql/11_clock.sql",
        "    if (select i.mode from pgsaas.installation i) is distinct from 'test' then",
        "    if false then",
        "tests/schema/test_install_clock.py",
    ),
    Fault(
        "a hold lasts as long as it likes",
        "sql/33_holds.sql",
        " or extract(epoch from p_ttl) > 86400 then",
        " then",
        "tests/sql/test_bad_holds.py",
    ),
    Fault(
        "erasing leaves an organization without an owner",
        "sql/54_lifecycle.sql",
        "    perform pgsaas.check_not_last_owner(x.id, v_user_id)"
        " from unnest(v_organizations) x (id);\n",
        "",
        "tests/sql/test_lifecycle.py",
    ),
    Fault(
        "erasing leaves the person in the records of organizations",
        "sql/54_lifecycle.sql",
        "     where e.details ->> 'user_id' = v_user_id\n",
        "     where false\n",
        "tests/sql/test_lifecycle.py",
    ),
    Fault(
        "an id whose text depends on settings is taken",
        "sql/55_attachments.sql",
        "t.typcategory = 'S' and t.typname <> 'bpchar') then",
        "true) then",
        "tests/sql/test_attach.py",
    ),
    Fault(
        "a sign-up goes without an account when its id was just taken",
        "sql/55_attachments.sql",
        "            continue when exists (select from pgsaas.account_external_ids x\n"
        "                where x.realm = p_realm and x.external_id = v_new.id);\n",
        "            continue;\n",
        "tests/sql/test_attach.py",
    ),
    Fault(
        "overdraft that comes back goes to whoever paid last",
        "sql/28_returns.sql",
        "order by g.effective_at < p_taken_at,\n",
        "order by true,\n",
        CLAWBACK,
    ),
    Fault(
        "a grant that ends within a settlement is forgotten by it",
        "sql/29_settlement.sql",
        "v_is_short := exists (\n",
        "v_is_short := false and exists (\n",
        CLAWBACK,
    ),
    Fault(
        "all the past of a rollover is carried along",
        "sql/29_settlement.sql",
        "if v_n <= 12 and v_rolls[v_n] > 0 then",
        "if v_rolls[v_n] > 0 then",
        SETTLEMENT,
    ),
]
