"""Members: nobody rises above their role, and no account is left without an owner."""

from __future__ import annotations

import threading
from uuid import UUID

import psycopg
import pytest

from tests.conftest import Conn, Database
from tests.security.conftest import World, account, one, refusal


def test_an_admin_cannot_make_themselves_an_owner(world: World) -> None:
    acme = world.ids["acme"]
    with world.user("adam") as conn:
        for call in ("set_member_role", "add_member"):
            state, _ = refusal(conn, f"select pgsaas.{call}(%s, 'adam', 'owner')", acme)
            assert state == "PT403"
        assert one(conn, "select pgsaas.my_role(%s)", acme) == "admin"


def test_an_admin_can_neither_name_remove_nor_demote_an_owner(world: World) -> None:
    acme = world.ids["acme"]
    with world.user("adam") as conn:
        for call in (
            "add_member(%s, 'stranger', 'owner')",
            "set_member_role(%s, 'mia', 'owner')",
            "set_member_role(%s, 'alice', 'member')",
            "add_member(%s, 'alice', 'member')",
            "remove_member(%s, 'alice')",
        ):
            assert refusal(conn, f"select pgsaas.{call}", acme)[0] == "PT403", call


@pytest.mark.parametrize("sub", ["bill", "mia"])
def test_billing_and_plain_members_manage_nobody(world: World, sub: str) -> None:
    acme = world.ids["acme"]
    with world.user(sub) as conn:
        for call in (
            "add_member(%s, 'stranger', 'member')",
            "add_member(%s, 'stranger', 'owner')",
            f"set_member_role(%s, '{sub}', 'admin')",
            f"set_member_role(%s, '{sub}', 'owner')",
            "remove_member(%s, 'adam')",
            "remove_member(%s, 'alice')",
        ):
            assert refusal(conn, f"select pgsaas.{call}", acme)[0] == "PT403", call
        assert one(conn, f"select pgsaas.remove_member(%s, '{sub}')", acme) is True
        assert one(conn, "select pgsaas.my_role(%s)", acme) is None


def test_strangers_learn_nothing_from_the_functions_of_members(world: World) -> None:
    unknown = UUID(int=7)
    with world.user("mallory") as conn:
        for call in (
            "add_member(%s, 'mallory', 'owner')",
            "add_member(%s, 'mallory', 'member')",
            "set_member_role(%s, 'alice', 'member')",
            "remove_member(%s, 'alice')",
            "remove_member(%s, 'mallory')",
        ):
            foreign = refusal(conn, f"select pgsaas.{call}", world.ids["acme"])
            assert foreign == refusal(conn, f"select pgsaas.{call}", unknown), call
            assert foreign[0] == "PT404", call


def test_the_last_owner_stays_whoever_asks(world: World) -> None:
    acme = world.ids["acme"]
    with world.acting("pgsaas_app") as conn:
        assert refusal(conn, "select pgsaas.remove_member(%s, 'alice')", acme)[0] == "PT422"
    with world.user("alice") as conn:
        assert refusal(conn, "select pgsaas.remove_member(%s, 'alice')", acme)[0] == "PT422"
        call = "select pgsaas.set_member_role(%s, 'alice', 'member')"
        assert refusal(conn, call, acme)[0] == "PT422"


def test_an_admin_of_a_user_account_cannot_demote_the_user_whose_account_it_is(
    world: World,
) -> None:
    alice = world.ids["alice"]
    with world.acting("pgsaas_app") as conn:
        one(conn, "select user_id from pgsaas.add_member(%s, 'adam', 'admin')", alice)
        conn.execute("select pgsaas.act_as('adam')")
        try:
            with conn.transaction():
                conn.execute("select pgsaas.add_member(%s, 'alice', 'member')", [alice])
        except psycopg.Error as error:
            assert error.sqlstate == "PT403"  # noqa: PT017
        conn.execute("select pgsaas.act_as('alice')")
        assert one(conn, "select pgsaas.my_role(%s)", alice) == "owner"


def test_no_owner_can_push_a_user_out_of_their_own_account(world: World) -> None:
    alice = world.ids["alice"]
    with world.acting("pgsaas_app") as conn:
        one(conn, "select user_id from pgsaas.add_member(%s, 'bob', 'owner')", alice)
        conn.execute("select pgsaas.act_as('bob')")
        try:
            with conn.transaction():
                conn.execute("select pgsaas.add_member(%s, 'alice', 'member')", [alice])
        except psycopg.Error as error:
            assert error.sqlstate in ("PT403", "PT422")  # noqa: PT017
        conn.execute("select pgsaas.act_as('alice')")
        assert one(conn, "select pgsaas.my_role(%s)", alice) == "owner"


def request(database: Database, sub: str) -> Conn:
    conn = psycopg.connect(database.dsn, prepare_threshold=None)
    conn.execute("set local role pgsaas_app")
    conn.execute("select pgsaas.act_as(%s)", [sub])
    return conn


def organization(database: Database, *owners: str) -> UUID:
    with database.connect() as conn:
        made = account(conn, "club", p_kind="organization")
        for owner in owners:
            conn.execute("select pgsaas.add_member(%s, %s, 'owner')", [made, owner])
    return made


def wait_for_lock(database: Database) -> None:
    with database.connect() as conn:
        for _ in range(500):
            if one(conn, "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"):
                return
            conn.execute("select pg_sleep(0.01)")
    pytest.fail("nobody waited")


def while_changing(
    database: Database, first: tuple[str, str], second: tuple[str, str], club: UUID
) -> list[str]:
    """The second call starts while the first one's transaction is open; how each one ended."""
    ends: list[str] = []

    def run() -> None:
        with request(database, second[0]) as conn:
            try:
                conn.execute(f"select pgsaas.{second[1]}".encode(), [club])
                conn.commit()
                ends.append("done")
            except psycopg.Error as error:
                ends.append(str(error.sqlstate))

    with request(database, first[0]) as conn:
        conn.execute(f"select pgsaas.{first[1]}".encode(), [club])
        thread = threading.Thread(target=run)
        thread.start()
        wait_for_lock(database)
        conn.commit()
        thread.join()
    return ends


def test_two_owners_who_remove_each_other_leave_one(own: Database) -> None:
    club = organization(own, "ann", "ben")
    ends = while_changing(
        own, ("ann", "remove_member(%s, 'ben')"), ("ben", "remove_member(%s, 'ann')"), club
    )
    assert ends != ["done"]
    with own.connect() as conn:
        assert one(conn, "select string_agg(user_id, ' ') from pgsaas.account_members") == "ann"


def test_an_owner_removed_a_moment_ago_removes_nobody(own: Database) -> None:
    club = organization(own, "ann", "ben", "cyd")
    ends = while_changing(
        own, ("ann", "remove_member(%s, 'ben')"), ("ben", "remove_member(%s, 'ann')"), club
    )
    assert ends == ["PT404"]


def test_an_admin_removed_a_moment_ago_adds_nobody(own: Database) -> None:
    club = organization(own, "ann")
    with own.connect() as conn:
        conn.execute("select pgsaas.add_member(%s, 'ben', 'admin')", [club])
    ends = while_changing(
        own, ("ann", "remove_member(%s, 'ben')"), ("ben", "add_member(%s, 'mallory')"), club
    )
    assert ends == ["PT404"]


def test_an_owner_demoted_a_moment_ago_names_no_owner(own: Database) -> None:
    club = organization(own, "ann", "ben")
    ends = while_changing(
        own,
        ("ann", "set_member_role(%s, 'ben', 'admin')"),
        ("ben", "add_member(%s, 'mallory', 'owner')"),
        club,
    )
    assert ends == ["PT403"]


def test_one_user_added_twice_at_once_is_one_member(own: Database) -> None:
    club = organization(own, "ann")
    ends = while_changing(
        own, ("ann", "add_member(%s, 'zoe')"), ("ann", "add_member(%s, 'zoe')"), club
    )
    assert ends == ["done"]
    with own.connect() as conn:
        assert one(conn, "select count(*) from pgsaas.account_members where user_id = 'zoe'") == 1
