from __future__ import annotations

import time
from uuid import UUID

import psycopg
import pytest

from tests.conftest import Conn
from tests.sql.hosts import IDS, Host
from tests.sql.ledger import START, Ledger


@pytest.fixture
def host(ledger: Ledger) -> Host:
    return Host(ledger)


@pytest.mark.parametrize(
    "kind",
    [
        "uuid",
        "bigint",
        "text",
    ],
)
@pytest.mark.soak
def test_a_hundred_thousand_users_get_an_account_each(conn: Conn, kind: str) -> None:
    host = Host(Ledger(conn))
    host.table(kind, 100_000)
    began = time.monotonic()
    row = host.attach()
    print(f"{kind}: 100,000 rows attached in {time.monotonic() - began:.1f} s")
    assert row == {"realm": "public.users", "attached": 100_000, "remaining": 0}
    assert host.missing() == 0
    assert host.ledger.scalar("select count(*) from pgsaas.account_balances") == 100_000
    began = time.monotonic()
    assert host.attach()["attached"] == 0
    print(f"{kind}: attached again in {time.monotonic() - began:.1f} s")
    host.add(100_001, 100_010, kind)
    assert host.missing() == 0


@pytest.mark.parametrize("kind", IDS)
def test_every_row_has_an_account_with_its_address_and_its_allowance(host: Host, kind: str) -> None:
    host.ledger.call("set_plan", "free", {"default": True, "allowance": 10})
    host.table(kind, 20)
    assert host.attach() == {"realm": "public.users", "attached": 20, "remaining": 0}
    assert host.missing() == 0
    assert set(host.accounts().values()) == {f"u{n}@example.com" for n in range(1, 21)}
    assert host.ledger.scalar("select sum(balance) from pgsaas.credit_balances") == 200
    same = host.ledger.scalar(
        "select count(*) from pgsaas.account_external_ids where account_id::text = external_id"
    )
    assert same == (20 if kind == "uuid" else 0)
    assert host.ledger.violations() == []


def test_repeating_changes_nothing(host: Host) -> None:
    host.table("bigint", 20)
    host.attach()
    host.ledger.at(START.replace(day=11))
    before = host.ledger.state()
    assert host.attach() == {"realm": "public.users", "attached": 0, "remaining": 0}
    after = host.ledger.state()
    for state in (before, after):
        [attachment] = state["attachments"]
        attachment.pop("attached_at")
    assert after == before


def has_trigger(host: Host) -> bool:
    found: bool = host.ledger.scalar(
        "select exists (select from pg_trigger where tgname = 'pgsaas_attached_row')"
    )
    return found


def test_a_limit_attaches_so_many_a_call_and_listens_when_none_remain(host: Host) -> None:
    host.table("bigint", 25)
    for attached, remaining in [(10, 15), (10, 5)]:
        row = host.attach(p_limit=10)
        assert (row["attached"], row["remaining"]) == (attached, remaining)
        assert not has_trigger(host)
    row = host.attach(p_limit=10)
    assert (row["attached"], row["remaining"]) == (5, 0)
    assert has_trigger(host)
    assert host.missing() == 0


def test_a_limit_that_is_met_exactly_leaves_nothing_behind(host: Host) -> None:
    host.table("bigint", 20)
    rows = [host.attach(p_limit=10) for _ in range(3)]
    assert [row["attached"] for row in rows] == [10, 10, 0]
    assert rows[-1]["remaining"] == 0
    assert has_trigger(host)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_raises(host: Host, limit: int) -> None:
    host.table("bigint", 3)
    with host.ledger.raises("22023"):
        host.attach(p_limit=limit)


@pytest.mark.parametrize("kind", IDS)
def test_new_rows_get_accounts_however_they_come(host: Host, kind: str) -> None:
    host.table(kind, 1)
    host.attach()
    host.add(2, 5, kind)
    values = {"uuid": str(UUID(int=6)), "bigint": "6", "text": "user_6"}
    copy = "copy users (id, email) from stdin"
    with host.ledger.conn.cursor() as cursor, cursor.copy(copy) as copied:
        copied.write_row((values[kind], "u6@example.com"))
    host.run(
        f"insert into users (id, email) select {IDS[kind]}, 'again@example.com'"
        " from generate_series(5, 10) n on conflict (id) do update set email = excluded.email"
    )
    host.run(f"insert into users (id) select {IDS[kind]} from generate_series(1, 12) n"
             " on conflict do nothing")  # fmt: skip
    assert host.missing() == 0
    rows = host.ledger.scalar("select count(*) from users")
    assert len(host.accounts()) == rows
    assert host.attach()["attached"] == 0


def test_an_address_that_changes_is_followed(host: Host) -> None:
    host.table("bigint", 3)
    host.attach()
    host.run("update users set email = 'new@example.com' where id = 2")
    host.run("update users set email = null where id = 3")
    host.run("update users set plan = 'pro'")
    assert host.accounts() == {"1": "u1@example.com", "2": "new@example.com", "3": None}


def test_an_id_that_changes_keeps_its_account(host: Host) -> None:
    host.table("bigint", 2)
    host.attach()
    account = host.ledger.scalar("select pgsaas.account_id_for('2')")
    host.run("update users set id = 20 where id = 2")
    assert set(host.accounts()) == {"1", "20"}
    assert host.ledger.scalar("select pgsaas.account_id_for('20')") == account
    host.run("update users set id = id + 100, email = 'x@example.com'")
    assert host.accounts() == {"101": "x@example.com", "120": "x@example.com"}


@pytest.mark.parametrize("change", ["id = 1 where id = 2", "id = 3 - id"])
def test_an_id_that_names_another_account_is_not_taken_over(host: Host, change: str) -> None:
    """Whoever got the id would get the credits; so the host is told, and nothing changes."""
    host.run("create table users (id int unique deferrable, email text)")
    host.run("insert into users values (1, 'one'), (2, 'two')")
    host.attach()
    if "where" in change:
        host.run("delete from users where id = 1")
    with host.ledger.raises("PT409"):
        host.run(f"update users set {change}")
    assert host.accounts() == {"1": "one", "2": "two"}


def test_deleted_rows_leave_their_accounts(host: Host) -> None:
    host.table("bigint", 3)
    host.attach()
    host.run("delete from users where id = 1")
    host.run("truncate users")
    assert set(host.accounts()) == {"1", "2", "3"}
    host.add(2, 4)
    assert set(host.accounts()) == {"1", "2", "3", "4"}


@pytest.mark.parametrize("odd", ["", "x" * 256, "é" * 200])
def test_attaching_comes_to_an_end_with_ids_that_no_account_can_have(conn: Conn, odd: str) -> None:
    host = Host(Ledger(conn))
    host.table("text", 3)
    host.run("insert into users (id) values (%s)", odd)
    host.run("set statement_timeout = '3s'")
    row = host.ledger.call("attach_users", "users")
    assert row["attached"] == 3


@pytest.mark.parametrize("odd", ["", "x" * 256])
def test_an_id_that_no_account_can_have_does_not_stop_a_sign_up(host: Host, odd: str) -> None:
    host.table("text", 1)
    host.attach()
    assert host.run("insert into users (id) values (%s)", odd) == 1
    assert set(host.accounts()) == {"user_1"}


@pytest.mark.parametrize("odd", ["", "x" * 256])
def test_a_change_to_an_id_that_no_account_can_have_does_not_stop_the_host(
    host: Host, odd: str
) -> None:
    host.table("text", 1)
    host.attach()
    assert host.run("update users set id = %s", odd) == 1


def test_addresses_too_long_to_keep_do_not_stop_a_sign_up(host: Host) -> None:
    host.table("bigint", 0)
    host.run("insert into users values (1, repeat('x', 2000))")
    host.attach()
    host.run("insert into users values (2, repeat('x', 2000))")
    host.run("update users set email = repeat('y', 3000)")
    assert set(host.accounts()) == {"1", "2"}


def test_an_erased_user_who_changes_address_gets_no_second_allowance(host: Host) -> None:
    host.ledger.call("set_plan", "free", {"default": True, "allowance": 10})
    host.table("uuid", 1)
    host.attach()
    account = host.ledger.scalar("select account_id from pgsaas.accounts")
    host.ledger.call("erase_account", account, "they asked")
    host.run("update users set email = 'fresh@example.com'")
    host.attach()
    assert host.ledger.scalar("select sum(balance) from pgsaas.account_balances") == 10


def test_attaching_again_without_an_address_keeps_the_address_column(host: Host) -> None:
    host.table("bigint", 2)
    host.attach()
    host.ledger.conn.execute("select pgsaas.attach_users(%s)", ["public.users"])
    host.add(3, 3, "bigint")
    assert set(host.accounts().values()) == {f"u{n}@example.com" for n in (1, 2, 3)}


def test_an_address_column_named_later_reaches_the_accounts_that_are_there(host: Host) -> None:
    host.table("bigint", 3)
    host.run("alter table users add mail text")
    host.run("update users set mail = 'm' || id")
    host.run("update users set mail = repeat('y', 3000) where id = 3")
    host.attach(p_email=None)
    assert set(host.accounts().values()) == {None}
    host.attach(p_email="mail")
    assert host.accounts() == {"1": "m1", "2": "m2", "3": None}
    host.attach(p_email="email")
    assert host.accounts() == {"1": "u1@example.com", "2": "u2@example.com", "3": "u3@example.com"}


def test_addresses_changed_while_it_was_detached_are_caught_up(host: Host) -> None:
    host.table("uuid", 2)
    host.attach()
    host.ledger.scalar("select pgsaas.detach_users('public.users')")
    host.run("update users set email = 'new@example.com'")
    host.attach()
    assert set(host.accounts().values()) == {"new@example.com"}


def test_an_address_set_by_hand_outlives_attaching_again(host: Host) -> None:
    host.table("bigint", 1)
    host.attach()
    account = host.ledger.scalar("select pgsaas.account_id_for('1')")
    host.ledger.call("update_account", account, p_email="hand@example.com")
    host.attach()
    assert host.accounts() == {"1": "hand@example.com"}


@pytest.mark.parametrize("kind", ["view", "materialized view"])
def test_a_view_is_no_users_table(host: Host, kind: str) -> None:
    host.table("bigint", 1)
    host.run(f"create {kind} people as select * from users")
    with pytest.raises(psycopg.Error, match="people is no table") as refused:
        host.attach("people")
    assert refused.value.sqlstate == "22023"


@pytest.mark.parametrize("kind", ["char(8)", "bytea", "timestamptz", "double precision", "padded"])
def test_an_id_whose_text_depends_on_settings_is_refused(host: Host, kind: str) -> None:
    host.run("create domain padded as char(8)")
    host.run(f"create table users (id {kind} primary key)")
    with pytest.raises(psycopg.Error, match="is no uuid, integer or text") as refused:
        host.attach(p_email=None)
    assert refused.value.sqlstate == "22023"


@pytest.mark.parametrize("kind", ["smallint", "varchar(40)", "word", "numeric(20)"])
def test_other_ids_with_one_text_are_taken(host: Host, kind: str) -> None:
    host.run("create domain word as text")
    host.run(f"create table users (id {kind} primary key)")
    host.run("insert into users values ('17')")
    host.attach(p_email=None)
    assert set(host.accounts()) == {"17"}


def test_row_security_that_would_hide_rows_is_an_error(ledger: Ledger, host: Host) -> None:
    host.run("create role landlord in role pgsaas_owner")
    host.table("bigint", 3)
    host.run("alter table users owner to landlord")
    host.run("alter table users enable row level security")
    host.run("alter table users force row level security")
    host.run("set local role landlord")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        host.attach()


def test_a_sign_up_whose_id_was_just_taken_gets_another(host: Host) -> None:
    host.table("uuid")
    host.attach()
    user = "0b0e7a52-6a0f-4a5e-9a35-0c1a0d4f8a11"
    host.ledger.call("create_account", user, p_external_id="legacy-1", p_realm="old")
    host.run("delete from pgsaas.account_balances")
    host.run("delete from pgsaas.accounts")  # as a transaction that is still open: not yet seen
    host.run("insert into users (id) values (%s)", user)
    assert host.missing() == 0
