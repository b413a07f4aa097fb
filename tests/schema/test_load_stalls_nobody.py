"""A load and those who charge and read meanwhile: neither waits for the other."""

from __future__ import annotations

import threading
import time

import pytest

from pgsaas import install
from pgsaas.resources import Resources
from tests.conftest import Conn, Database
from tests.schema.conftest import write

READS = [
    "select * from pgsaas.credit_balances",
    "select * from pgsaas.open_credit_grants",
    "select * from pgsaas.open_credit_holds",
    "select * from pgsaas.accounts",
]
CHARGE = "select success from pgsaas.deduct_credits(%s, 1)"
MADE = """
    select 'view ' || c.relname, c.oid::text, r.xmin::text, c.xmin::text
      from pg_rewrite r join pg_class c on c.oid = r.ev_class
     where c.relnamespace = 'pgsaas'::regnamespace and c.relkind = 'v'
    union all
    select 'policy ' || p.polname, p.oid::text, p.xmin::text, null from pg_policy p
     where p.polrelid in (select oid from pg_class where relnamespace = 'pgsaas'::regnamespace)
    union all
    select 'trigger ' || t.tgname, t.oid::text, t.xmin::text, null
      from pg_trigger t join pg_class c on c.oid = t.tgrelid
     where c.relnamespace = 'pgsaas'::regnamespace
     order by 1
"""


@pytest.fixture
def account(empty: Database) -> str:
    install.migrate(empty.dsn, test_mode=True)
    with empty.connect() as conn:
        made = conn.execute("select account_id from pgsaas.create_account()").fetchone()
        assert made
        conn.execute("select from pgsaas.add_credits(%s, 100)", made)
        return str(made[0])


def use(conn: Conn, account: str) -> None:
    """Do what takes every lock that the application takes."""
    charged = conn.execute(CHARGE, [account]).fetchone()
    assert charged == (True,)
    for statement in READS:
        conn.execute(statement.encode())


def test_a_load_makes_no_view_policy_or_trigger_anew(empty: Database, account: str) -> None:
    with empty.connect() as conn:
        before = conn.execute(MADE).fetchall()
        assert len(before) > 30
        assert install.migrate(empty.dsn, force=True).loaded
        assert conn.execute(MADE).fetchall() == before


def test_a_load_waits_for_no_open_transaction(
    empty: Database, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgsaas.install.loader.ATTEMPTS", 1)
    with empty.connect(autocommit=False) as conn:
        use(conn, account)
        assert install.migrate(empty.dsn, force=True).loaded
        conn.rollback()


def test_nobody_waits_for_a_load_that_is_under_way(
    empty: Database, account: str, files: Resources
) -> None:
    write(files, "sql/95_slow.sql", "select pg_catalog.pg_sleep(1.5);")
    loading = threading.Thread(
        target=install.migrate, args=[empty.dsn], kwargs={"resources": files}
    )
    with empty.connect() as conn:
        use(conn, account)
        loading.start()
        asleep = "select 1 from pg_stat_activity where wait_event = 'PgSleep'"
        while loading.is_alive() and not conn.execute(asleep).fetchone():
            time.sleep(0.01)
        conn.execute("set lock_timeout = '300ms'")
        use(conn, account)
        assert loading.is_alive()
    with empty.connect() as newcomer:
        newcomer.execute("set lock_timeout = '300ms'")
        use(newcomer, account)
    loading.join()


@pytest.mark.parametrize(
    "change",
    [
        "alter view pgsaas.credit_balances set (security_invoker = false)",
        "create or replace view pgsaas.open_credit_holds with (security_invoker = true) as"
        " select h.account_id, h.hold_id, h.amount, h.created_at, h.expires_at, h.job_id,"
        " h.agent_id, h.description, h.metadata from pgsaas.credit_holds h",
        "drop view pgsaas.open_credit_grants",
    ],
)
def test_a_view_that_differs_is_made_anew(empty: Database, account: str, change: str) -> None:
    with empty.connect() as conn:
        texts = (
            "select c.relname, pg_get_viewdef(c.oid), c.reloptions, obj_description(c.oid)"
            " from pg_class c where c.relnamespace = 'pgsaas'::regnamespace and c.relkind = 'v'"
            " order by 1"
        )
        before = conn.execute(texts).fetchall()
        conn.execute(change.encode())
        assert conn.execute(texts).fetchall() != before
        assert install.migrate(empty.dsn).loaded
        assert conn.execute(texts).fetchall() == before
