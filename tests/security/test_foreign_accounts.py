"""Foreign and unknown accounts answer alike; no call touches what its caller may not know of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import psycopg
import pytest

from tests.conftest import Conn
from tests.security.conftest import World, one

UNKNOWN = UUID("dddddddd-dddd-4ddd-8ddd-dddddddddddd")

#: Every function that takes an account, with arguments that would work on an account of one's own.
CALLS = (
    "update_account(%s, 'x')",
    "add_member(%s, 'x')",
    "set_member_role(%s, 'x', 'member')",
    "remove_member(%s, 'x')",
    "freeze_account(%s, 'x')",
    "unfreeze_account(%s, 'x')",
    "export_account(%s)",
    "erase_account(%s, 'x')",
    "lock_accounts(array[%s]::uuid[])",
    "deduct_credits(%s, 1)",
    "deduct_credits(%s, 1, p_idempotency_key => 'k')",
    "deduct_credits(%s, 1000000)",
    "deduct_credits_batch(array[%s]::uuid[], array[1])",
    "deduct_credits_batch(array[%s]::uuid[], array[1000000])",
    "deduct_credits_batch(array[%s]::uuid[], array[-1])",
    "add_credits(%s, 1)",
    "refund_credits(%s, 3)",
    "refund_credits(%s, 99)",
    "revoke_grant(%s, 1)",
    "revoke_grant(%s, 99)",
    "transfer_credits(%s, gen_random_uuid(), 1)",
    "transfer_credits('{own}', %s, 1)",
    "transfer_credits('{own}', %s, 1000000)",
    "transfer_credits('{own}', %s, 1, p_idempotency_key => 'k')",
    "transfer_credits(%s, '{own}', 1)",
    "set_burn_order(%s, 'expiring_first')",
    "set_low_balance_at(%s, 1)",
    "get_balance(%s)",
    "balance_at(%s, now())",
    "balance_at(%s, '2001-01-01')",
    "balance_at(%s, '2222-01-01')",
    "list_transactions(%s)",
    "explain_deduction(%s, 3)",
    "verify_ledger(%s)",
    "hold_credits(%s, 1)",
    "extend_hold(%s, 1)",
    "extend_hold(%s, 99)",
    "capture_hold(%s, 1)",
    "capture_hold(%s, 1, 1000000)",
    "release_hold(%s, 1)",
    "release_hold(%s, 99)",
    "my_role(%s)",
)


def response(conn: Conn, call: str, of: UUID, own: UUID) -> str:
    """Everything that a caller can tell: the rows, or the error with all its fields."""
    query = f"select * from pgsaas.{call.format(own=own)}"
    try:
        with conn.transaction():
            rows = conn.execute(query.encode(), [of]).fetchall()
    except psycopg.Error as error:
        d = error.diag
        seen = (d.sqlstate, d.message_primary, d.message_detail, d.message_hint, d.context)
        return str(seen).replace(str(of), "?")
    return str(rows).replace(str(of), "?")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("role", ["pgsaas_app", "pgsaas_user"])
@pytest.mark.parametrize("sub", ["alice", "nobody at all"])
def test_foreign_and_unknown_accounts_answer_alike(
    world: World, call: str, role: str, sub: str
) -> None:
    own = world.ids["alice"]
    with world.user(sub, role) as conn:
        expected = response(conn, call, UNKNOWN, own)
        for foreign in ("bob", "bobco", "erik", "uma"):
            assert response(conn, call, world.ids[foreign], own) == expected
    assert "permission denied for table" not in expected


@pytest.mark.parametrize("call", CALLS)
def test_nobody_answers_like_a_stranger(world: World, call: str) -> None:
    own = world.ids["acme"]
    with world.user("nobody at all") as conn:
        expected = response(conn, call, UNKNOWN, own)
    nobody: list[object] = [
        {"role": "anon"},
        {"sub": None},
        {"sub": ""},
        {"sub": ["alice"]},
        [],
        "null",
    ]
    for claims in nobody:
        with world.acting("pgsaas_app", claims=claims) as conn:
            assert response(conn, call, world.ids["alice"], own) == expected, claims


@contextmanager
def locked(world: World, names: tuple[str, ...], table: str) -> Iterator[None]:
    """Another request is busy with these accounts."""
    with world.acting("postgres") as conn:
        conn.execute(
            f"select from pgsaas.{table} where account_id = any (%s) for no key update".encode(),
            [world.accounts(*names)],
        )
        yield


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("table", ["accounts", "account_balances"])
def test_a_busy_foreign_account_answers_like_an_unknown_one(
    world: World, call: str, table: str
) -> None:
    own = world.ids["alice"]
    with locked(world, ("bob",), table), world.user("alice") as conn:
        conn.execute("set local lock_timeout = '100ms'")
        expected = response(conn, call, UNKNOWN, own)
        assert response(conn, call, world.ids["bob"], own) == expected


def test_a_batch_with_a_foreign_account_charges_ones_own_and_tells_of_none(world: World) -> None:
    ids = [world.ids["alice"], world.ids["bob"], UNKNOWN, world.ids["acme"]]
    with world.user("alice") as conn:
        rows = conn.execute(
            "select success, error_code, error_message, new_balance, available, seq"
            " from pgsaas.deduct_credits_batch(%s, array[1, 1, 1, 1])",
            [ids],
        ).fetchall()
        assert [row[0] for row in rows] == [True, False, False, True]
        assert (
            rows[1] == rows[2] == (False, "ACCOUNT_NOT_FOUND", "no such account", None, None, None)
        )


def test_an_item_without_an_account_spoils_no_other_item_of_a_users_batch(world: World) -> None:
    with world.user("alice") as conn:
        rows = conn.execute(
            "select success from pgsaas.deduct_credits_batch(array[%s, null]::uuid[], array[1, 1])",
            [world.ids["alice"]],
        ).fetchall()
    assert rows == [(True,), (False,)]


def test_only_ones_own_accounts_are_counted_when_locking(world: World) -> None:
    ids = [*world.accounts("alice", "acme", "bob", "bobco"), UNKNOWN]
    with world.user("alice") as conn:
        assert one(conn, "select pgsaas.lock_accounts(%s)", ids) == 2


def test_external_ids_of_others_cannot_be_looked_up(world: World) -> None:
    for role in ("pgsaas_app", "pgsaas_user"):
        with world.user("alice", role) as conn:
            find = "select pgsaas.account_id_for(%s, %s)"
            assert one(conn, find, "alice", None) == world.ids["alice"]
            for name, realm in (("bob", None), ("alice", "elsewhere"), ("nobody", None)):
                assert one(conn, find, name, realm) is None


def test_naming_a_stranger_a_member_tells_not_whether_they_have_an_account(world: World) -> None:
    """Anybody may be made a member unasked: that must not open their account to transfers."""
    club = world.ids["acme"]
    answers = []
    with world.user("alice") as conn:
        for somebody in (world.ids["uma"], UNKNOWN):
            conn.execute("select pgsaas.add_member(%s, %s)", [club, str(somebody)])
            call = "transfer_credits('{own}', %s, 1000000)"
            answers.append(response(conn, call, somebody, club))
    assert answers[0] == answers[1]
