"""The application's tables: attached, detached, and the wrappers for older calls."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from tests.cli.conftest import Shell
from tests.conftest import Conn


def test_a_users_table_is_attached_once(shell: Shell, users: Conn) -> None:
    attached = shell.ok("attach", "public.users", "--id", "id", "--email", "email")
    assert attached == "public.users is attached: 3 new accounts\n"
    assert shell.json("attach", "public.users") == {
        "realm": "public.users",
        "attached": 0,
        "identity_realm": "public.users",
    }
    users.execute("insert into public.users values (4, '4@x.org')")
    assert shell.json("credits", "balance", "4")["balance"] == 0


def test_a_table_of_more_than_one_step_is_attached_whole(shell: Shell, users: Conn) -> None:
    users.execute("insert into public.users select n from generate_series(4, 10005) n")
    assert shell.ok("attach", "public.users") == "public.users is attached: 10,005 new accounts\n"


def steps(monkeypatch: pytest.MonkeyPatch, *answers: tuple[int, int]) -> list[dict[str, Any]]:
    """Let attach_users answer these (attached, remaining); the arguments of its calls."""
    rows = iter(answers)
    called = []

    def answer(conn: Conn, function: str, **arguments: Any) -> list[dict[str, Any]]:
        called.append(arguments)
        attached, remaining = next(rows)
        return [{"realm": "public.users", "attached": attached, "remaining": remaining}]

    monkeypatch.setattr(import_module("pgsaas.cli.attach"), "call", answer)
    return called


def test_it_goes_on_until_none_remain(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    called = steps(monkeypatch, (10000, 7), (7, 0))
    assert shell.json("attach", "public.users")["attached"] == 10007
    assert called == [{"table": "public.users", "limit": 10000}] * 2


def test_rows_that_can_never_be_attached_end_it(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps(monkeypatch, (10000, 2), (0, 2))
    stuck = shell("attach", "public.users")
    assert (stuck.code, stuck.err) == (
        1,
        "pgsaas: 2 rows of public.users cannot have an account\n",
    )


def test_a_table_is_detached_and_its_accounts_stay(shell: Shell, users: Conn) -> None:
    shell.ok("attach", "public.users")
    assert shell.ok("detach", "public.users") == "detached\n"
    assert shell.json("detach", "public.users") == {"detached": False}
    users.execute("insert into public.users values (4)")
    assert len(shell.json("accounts", "list")["accounts"]) == 3


def test_what_is_no_table_is_one_line(shell: Shell, users: Conn) -> None:
    assert "a table is named with its schema" in shell("attach", "users").err
    for verb in ("attach", "detach"):
        missing = shell(verb, "public.nope")
        assert (missing.code, missing.out) == (1, "")
        assert missing.err == (
            'pgsaas: relation "public.nope" does not exist: '
            "a table is named with its schema, such as public.users\n"
        )
    assert shell("attach", "a b").code == 1
    assert shell("attach", "public.users", "--id", "nope").err == (
        'pgsaas: table public.users has no column "nope"\n'
    )
    assert "is not unique" in shell("attach", "public.users", "--id", "email").err


def test_wrappers_are_written_into_a_schema(shell: Shell, conn: Conn) -> None:
    conn.execute("create schema api")
    names = [
        "api.deduct_credits(uuid, numeric, uuid, text, text)",
        "api.add_credits(uuid, numeric, text)",
    ]
    assert shell.ok("expose", "--schema", "api").splitlines() == names
    assert shell.json("expose", "--schema", "api") == {"functions": names}
    missing = shell("expose", "--schema", "nope")
    assert (missing.code, missing.err) == (1, 'pgsaas: schema "nope" does not exist\n')


def test_attaching_says_whose_ids_are_those_of_users(shell: Shell, users: Conn) -> None:
    users.execute("create table public.staff (id bigint primary key)")
    assert shell("attach").err == "no table is attached\n"
    assert "its ids are the user ids" in shell("attach", "public.users").err
    second = shell("attach", "public.staff").err
    assert "the user ids are still those of public.users" in second
    assert "pgsaas settings set identity_realm public.staff" in second
    listed = shell.json("attach")
    assert [each["realm"] for each in listed["attachments"]] == ["public.staff", "public.users"]
    assert listed["identity_realm"] == "public.users"
    assert shell("detach", "public.staff").err == ""
    assert shell("detach", "public.users").err == (
        "the user ids are still those of public.users (setting identity_realm)\n"
    )
    assert shell("attach", "--id", "id").code == 2
