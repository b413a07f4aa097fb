"""What hosts do to their users table after it was attached."""

from __future__ import annotations

import subprocess

import pytest

from tests.conftest import Conn, Database, create_database, drop_database
from tests.sql.hosts import Host
from tests.sql.ledger import Ledger


@pytest.fixture
def host(ledger: Ledger) -> Host:
    """Three users, attached."""
    host = Host(ledger)
    host.table("bigint", 3)
    host.attach()
    return host


def sign_up(host: Host, table: str = "users", key: str = "id", email: str = "email") -> None:
    """A new user and a changed address, and that both were noticed."""
    host.run(f"insert into {table} ({key}, {email}) values (4, 'u4@example.com')")
    host.run(f"update {table} set {email} = 'new@example.com' where {key} = 1")
    assert set(host.accounts()) == {"1", "2", "3", "4"}
    assert host.accounts()["1"] == "new@example.com"
    assert host.missing(table, key) == 0


RENAMES = {
    "id": ("alter table users rename id to user_id", "users", "user_id", "email"),
    "email": ("alter table users rename email to mail", "users", "id", "mail"),
    "swapped": (
        "alter table users rename email to x; alter table users rename plan to email;"
        " alter table users rename x to plan",
        "users", "id", "plan",
    ),
    "table": ("alter table users rename to members", "members", "id", "email"),
    "schema": ("create schema shop; alter table users set schema shop", "shop.users", "id",
               "email"),
    "everything": (
        "create schema shop; alter table users set schema shop;"
        " alter table shop.users rename to members; alter table shop.members rename id to key;"
        " alter table shop.members rename email to mail",
        "shop.members", "key", "mail",
    ),
    "columns": (
        "alter table users drop column plan; alter table users add a int default 5;"
        " alter table users add b text not null default 'x'; alter table users drop column a",
        "users", "id", "email",
    ),
    "email type": ("alter table users alter email type varchar(100)", "users", "id", "email"),
    "id type": ("alter table users alter id type numeric(20)", "users", "id", "email"),
    "rewrite": ("cluster users using users_pkey", "users", "id", "email"),
    "owner": ("create role shop; alter table users owner to shop", "users", "id", "email"),
    "other key": (
        "alter table users drop constraint users_pkey; alter table users add unique (id)",
        "users", "id", "email",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RENAMES)
def test_a_change_of_the_table_does_not_stop_new_accounts(host: Host, name: str) -> None:
    change, table, key, email = RENAMES[name]
    host.run(change)
    sign_up(host, table, key, email)
    again = host.attach(table, p_id=key, p_email=email)
    assert again == {"realm": "public.users", "attached": 0, "remaining": 0}
    assert host.ledger.call("detach_users", table) == {"detach_users": True}


def test_an_id_that_grows_from_int_to_bigint_keeps_its_accounts(ledger: Ledger) -> None:
    host = Host(ledger)
    host.table("int", 3)
    host.attach()
    host.run("alter table users alter id type bigint")
    host.run("insert into users (id) values (%s)", 2**40)
    sign_up_ids = set(host.accounts())
    assert sign_up_ids == {"1", "2", "3", str(2**40)}
    assert host.attach()["attached"] == 0


def test_a_dropped_address_column_leaves_addresses_as_they_were(host: Host) -> None:
    host.run("alter table users drop column email")
    host.run("insert into users (id) values (4)")
    host.run("update users set plan = 'pro'")
    host.run("update users set id = 30 where id = 3")
    assert host.accounts() == {"1": "u1@example.com", "2": "u2@example.com",
                               "30": "u3@example.com", "4": None}  # fmt: skip
    host.run("alter table users add email text")
    host.run("update users set email = 'new@example.com'")
    assert host.accounts()["1"] == "u1@example.com"
    assert host.attach()["attached"] == 0
    host.run("update users set email = 'newer@example.com'")
    assert set(host.accounts().values()) == {"newer@example.com"}


def test_a_dropped_id_column_lets_rows_in_with_a_warning(host: Host) -> None:
    notices: list[str] = []
    host.ledger.conn.add_notice_handler(lambda n: notices.append(n.message_primary or ""))
    host.run("alter table users drop column id")
    assert host.run("insert into users (email) values ('x')") == 1
    assert any("attach it again" in notice for notice in notices)
    host.run("alter table users add id bigint generated always as identity unique")
    host.attach()
    assert host.missing() == 0


SWAPS = {
    "drop and rename": "drop table users; alter table users_new rename to users",
    "rename both": "alter table users rename to users_old; alter table users_new rename to users",
    "rename and drop later": "alter table users rename to users_old;"
    " alter table users_new rename to users; drop table users_old",
}


@pytest.mark.parametrize("swap", SWAPS)
def test_a_table_that_was_copied_and_swapped_is_healed_by_attaching_again(
    host: Host, swap: str
) -> None:
    host.run("create table users_new (like users including all)")
    host.run("insert into users_new select * from users")
    host.run(SWAPS[swap])
    host.run("insert into users (id) values (50)")
    if swap == "rename both":  # the old table is still there, and has the realm
        with host.ledger.raises("PT409"):
            host.attach()
        host.ledger.call("detach_users", "users_old")
    again = host.attach()
    assert again["realm"] == "public.users"
    host.run("delete from users where id = 50")
    host.run("insert into users (id, email) values (51, 'u51@example.com')")
    assert set(host.accounts()) == {"1", "2", "3", "50", "51"}
    assert host.missing() == 0
    assert host.ledger.scalar("select count(*) from pgsaas.attachments") == 1
    assert host.ledger.call("detach_users", "users") == {"detach_users": True}


def partitioned(ledger: Ledger) -> Host:
    host = Host(ledger)
    host.run("create table users (id bigint primary key, email text) partition by range (id)")
    host.run("create table users_1 partition of users for values from (0) to (100)")
    host.run("insert into users values (1, 'u1@example.com'), (2, 'u2@example.com')")
    assert host.attach()["attached"] == 2
    return host


def test_rows_of_every_partition_get_accounts(ledger: Ledger) -> None:
    host = partitioned(ledger)
    host.run("create table users_2 (email text, id bigint not null)")  # columns in another order
    host.run("insert into users_2 values ('u150@example.com', 150)")
    host.run("alter table users attach partition users_2 for values from (100) to (200)")
    host.run("insert into users values (3, 'u3@example.com'), (151, 'u151@example.com')")
    host.run("insert into users_2 (id) values (152)")
    host.run("update users set email = 'new@example.com' where id = 151")
    assert set(host.accounts()) == {"1", "2", "3", "151", "152"}
    assert host.accounts()["151"] == "new@example.com"
    assert host.attach()["attached"] == 1  # the row that was in the partition before
    assert host.missing() == 0


def test_a_row_that_moves_to_another_partition_is_a_new_row(ledger: Ledger) -> None:
    """PostgreSQL reports it as deleted and inserted, so its new id gets an account of its own."""
    host = partitioned(ledger)
    host.run("create table users_2 partition of users for values from (100) to (200)")
    account = ledger.scalar("select pgsaas.account_id_for('2')")
    host.run("update users set id = 102 where id = 2")
    assert host.missing() == 0
    assert ledger.scalar("select pgsaas.account_id_for('2')") == account
    assert ledger.scalar("select pgsaas.account_id_for('102')") != account


def test_renaming_a_column_of_a_partitioned_table_is_no_matter_either(ledger: Ledger) -> None:
    host = partitioned(ledger)
    host.run("alter table users rename id to user_id")
    host.run("alter table users rename email to mail")
    host.run("insert into users values (3, 'u3@example.com')")
    assert host.accounts().get("3") == "u3@example.com"


def restored(database: Database) -> Database:
    """The database in a new one, by pg_dump and pg_restore."""
    bindir = database.server.bindir
    copy = create_database(database.server)
    dump = subprocess.run(
        [str(bindir / "pg_dump"), "-Fc", database.dsn], check=True, capture_output=True
    ).stdout
    done = subprocess.run(
        [str(bindir / "pg_restore"), "--exit-on-error", "-d", copy.dsn],
        input=dump, check=False, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return copy


@pytest.mark.parametrize("renamed", [False, True], ids=["as attached", "columns renamed before"])
def test_a_dump_restored_elsewhere_goes_on_giving_accounts(
    conn: Conn, db: Database, renamed: bool
) -> None:
    host = Host(Ledger(conn))
    host.run("create table filler (x int)")  # other numbers of relations and columns over there
    host.run("create table users (gone int, id bigint primary key, email text)")
    host.run("alter table users drop column gone")
    host.add(1, 3)
    host.attach()
    key, email = "id", "email"
    if renamed:
        key, email = "user_id", "mail"
        host.run("alter table users rename id to user_id")
        host.run("alter table users rename email to mail")
        host.run("insert into users values (3, 'u3@example.com') on conflict do nothing")
        host.run("update users set mail = mail")  # the next write notes the new names
    host.run("drop table filler")
    copy = restored(db)
    try:
        with copy.connect() as there:
            other = Host(Ledger(there))
            assert set(other.accounts()) == {"1", "2", "3"}
            sign_up(other, "public.users", key, email)
            assert other.ledger.violations() == []
            again = other.attach("public.users", p_id=key, p_email=email)
            assert again == {"realm": "public.users", "attached": 0, "remaining": 0}
    finally:
        drop_database(copy)


def test_a_ledger_restored_elsewhere_is_the_same_ledger(conn: Conn, db: Database) -> None:
    ledger = Ledger(conn)
    account = ledger.account(100)
    ledger.done("deduct_credits", account, 5, p_idempotency_key="k")
    ledger.done("hold_credits", account, 5)
    copy = restored(db)
    try:
        with copy.connect() as there:
            other = Ledger(there)
            assert other.state() == ledger.state()
            again = other.done("deduct_credits", account, 5, p_idempotency_key="k")
            assert again["replayed"]
            assert other.scalar("select pgsaas.is_adopted()") is False
            assert other.violations() == []
    finally:
        drop_database(copy)
