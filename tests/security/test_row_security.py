"""Row security: quick enough to be left on, and deaf to conditions that would tell of others."""

from __future__ import annotations

import pytest

from tests.conftest import Database
from tests.security.conftest import World, account, credit, one


def test_a_users_read_of_the_ledger_is_a_look_into_the_index(own: Database) -> None:
    with own.connect() as conn:
        mine, others = account(conn, "alice"), account(conn, "bob")
        for account_id in (mine, others):
            credit(conn, account_id, 100000)
            conn.execute(
                "select pgsaas.deduct_credits_batch(array_fill(%s::uuid, array[5000]),"
                " array_fill(1::numeric, array[5000]))",
                [account_id],
            )
        for number in range(50):
            credit(conn, account(conn, f"user {number}"), 5)
        conn.execute("vacuum analyze")
    with own.connect("host_signed_in", {"sub": "user 7"}) as conn:
        plan = "\n".join(
            row[0]
            for row in conn.execute(
                "explain (costs off) select * from pgsaas.credit_transactions where amount < 0"
            ).fetchall()
        )
        assert "Index Cond: (account_id = ANY (pgsaas.my_account_ids()))" in plan
        assert "Filter: (account_id" not in plan


def test_a_users_accounts_are_looked_up_once_a_query(own: Database) -> None:
    with own.connect() as conn:
        mine = account(conn, "alice")
        credit(conn, mine, 100000)
        for number in range(50):
            credit(conn, account(conn, f"user {number}"), 5)
        conn.execute(
            "select pgsaas.deduct_credits_batch(array_fill(%s::uuid, array[5000]),"
            " array_fill(1::numeric, array[5000]))",
            [mine],
        )
        conn.execute("vacuum analyze")
    calls = (
        "select coalesce(sum(pg_stat_get_xact_function_calls('pgsaas.my_account_ids()'"
        "::regprocedure)), 0)::int"
    )
    with own.connect(claims={"sub": "alice"}, autocommit=False) as conn:
        conn.execute("set local track_functions = 'all'")
        conn.execute("set local role host_signed_in")
        before = int(one(conn, calls))
        assert one(conn, "select count(*) from pgsaas.credit_transactions") == 5001
        # planning estimates with it as well
        assert int(one(conn, calls)) - before <= 4


# --- conditions that tell about rows which row security hides ---


@pytest.mark.parametrize(
    "query",
    [
        "select count(*) from pgsaas.{} t where pg_temp.tell(t::text)",
        "select count(*) from pgsaas.{} t where (t.account_id::text || 'x')::int = 0",
        "select count(*) from pgsaas.{} t where 1 / (length(t::text) - length(t::text)) = 0",
        "select count(*) from pgsaas.{} t where t.account_id is not null and pg_temp.tell(t::text)",
    ],
)
@pytest.mark.parametrize("sub", ["mallory", ""])
def test_no_condition_is_evaluated_on_a_row_of_others(world: World, query: str, sub: str) -> None:
    relations = (
        "accounts", "account_external_ids", "account_members", "account_balances",
        "credit_balances", "credit_grants", "open_credit_grants", "credit_holds",
        "credit_debts", "credit_transactions", "credit_checkpoints",
    )  # fmt: skip
    with world.user(sub, "pgsaas_user") as conn:
        conn.execute("reset role")
        conn.execute(
            "create function pg_temp.tell(text) returns boolean cost 0.0000001 language plpgsql"
            " as $$ begin raise exception 'seen: %', $1; end $$"
        )
        conn.execute("set local role pgsaas_user")
        for relation in relations:
            assert one(conn, query.format(relation)) == 0, relation


def test_what_the_planner_knows_about_others_is_not_shown(world: World) -> None:
    with world.database.connect() as conn:
        conn.execute("analyze pgsaas.accounts")
    with world.user("mallory", "pgsaas_user") as conn:
        hidden = "select count(*) from pg_stats where schemaname = 'pgsaas'"
        assert one(conn, hidden) == 0
