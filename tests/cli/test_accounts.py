"""Accounts, their names, their members, and the proof of the ledger."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Shell
from tests.conftest import Conn

NOBODY = "00000000-0000-0000-0000-000000000000"


def test_accounts_are_listed_in_pages(shell: Shell, users: Conn) -> None:
    shell.ok("attach", "public.users", "--email", "email")
    first = shell.json("accounts", "list", "--limit", "2")
    assert len(first["accounts"]) == 2
    assert first["next"] == first["accounts"][1]["account_id"]
    rest = shell.json("accounts", "list", "--limit", "2", "--after", first["next"])
    assert rest["next"] is None
    listed = first["accounts"] + rest["accounts"]
    assert sorted(each["external_id"] for each in listed) == ["1", "2", "3"]
    plain = shell("accounts", "list", "--limit", "2")
    assert len(plain.out.splitlines()) == 3
    assert plain.err == f"there are more: --after {first['next']}\n"


def test_no_accounts_are_no_lines(shell: Shell) -> None:
    nothing = shell("accounts", "list")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "there are no accounts\n")
    assert shell.json("accounts", "list") == {"accounts": [], "next": None}


def test_an_account_is_created_once(shell: Shell) -> None:
    made = shell.json("accounts", "create", "--external-id", "x", "--name", "X")
    assert made["created"]
    again = shell.ok("accounts", "create", "--external-id", "x")
    assert again == f"it was there: user {made['account_id']}\n"
    other = shell("accounts", "create", "--id", made["account_id"], "--kind", "organization")
    assert (other.code, other.err) == (1, "pgsaas: the account exists as user\n")


def test_an_account_has_three_names(shell: Shell, users: Conn) -> None:
    shell.ok("attach", "public.users")
    account_id = shell.json("accounts", "show", "2")["account"]["account_id"]
    for name in (account_id, account_id.upper(), "2", "public.users:2"):
        assert shell.json("credits", "balance", name)["account_id"] == account_id


def test_an_external_id_may_hold_colons(shell: Shell) -> None:
    made = shell.json("accounts", "create", "--external-id", "auth0:7", "--realm", "a:b")
    for name in ("a:b:auth0:7", made["account_id"]):
        assert shell.json("credits", "balance", name)["account_id"] == made["account_id"]


def test_a_name_with_two_meanings_is_refused(shell: Shell) -> None:
    shell.ok("accounts", "create", "--external-id", "a:b:c", "--realm", "")
    shell.ok("accounts", "create", "--external-id", "b:c", "--realm", "a")
    unclear = shell("credits", "add", "a:b:c", "5")
    assert (unclear.code, unclear.err) == (
        1,
        'pgsaas: "a:b:c" names 2 accounts: give the account id\n',
    )


def test_an_account_id_goes_before_an_external_id(shell: Shell) -> None:
    first = shell.json("accounts", "create")["account_id"]
    shell.ok("accounts", "create", "--external-id", first)
    assert shell.json("credits", "balance", first)["account_id"] == first


@pytest.mark.parametrize("name", ["nobody", NOBODY, "public.users:1", ":", "a:", ""])
@pytest.mark.parametrize(
    "command",
    [
        ["credits", "deduct", "{}", "1"],
        ["credits", "balance", "{}"],
        ["accounts", "show", "{}"],
        ["accounts", "export", "{}"],
        ["accounts", "freeze", "{}", "--reason", "r"],
        ["accounts", "members", "list", "{}"],
        ["verify", "{}"],
    ],
)
def test_an_unknown_account_is_one_line(shell: Shell, name: str, command: list[str]) -> None:
    if command[0] == "verify" and not name:
        pytest.skip("an empty argument of verify is no argument")
    unknown = shell(*(part.format(name) for part in command))
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.err == (
        f'pgsaas: no account "{name}": give an account id, an external id, realm:external-id or '
        "an address\n"
    )


def test_an_account_is_frozen_and_goes_on(shell: Shell, ada: str) -> None:
    assert shell.ok("accounts", "freeze", ada, "--reason", "fraud") == "frozen\n"
    assert shell.ok("accounts", "freeze", ada, "--reason", "fraud") == "it was frozen already\n"
    assert shell("credits", "deduct", ada, "1").err == (
        "pgsaas: the account is frozen (ACCOUNT_FROZEN)\n"
    )
    assert shell.json("accounts", "list")["accounts"][0]["state"] == "frozen"
    assert shell.json("accounts", "unfreeze", ada, "--reason", "cleared")["changed"] is True
    assert shell.ok("accounts", "unfreeze", ada, "--reason", "cleared") == "it was not frozen\n"
    assert shell("accounts", "freeze", ada).code == 2
    blank = shell("accounts", "freeze", ada, "--reason", " ")
    assert (blank.code, blank.err) == (1, "pgsaas: a reason is required\n")


def test_an_account_is_exported_as_json_lines(shell: Shell, ada: str) -> None:
    lines = [json.loads(line) for line in shell.ok("accounts", "export", ada).splitlines()]
    assert [line["section"] for line in lines] == ["account", "balance", "grant", "transaction"]
    assert lines[3]["record"]["amount"] == 500


def test_erasing_asks_first(shell: Shell, ada: str, monkeypatch: pytest.MonkeyPatch) -> None:
    account_id = shell.json("accounts", "show", ada)["account"]["account_id"]
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert shell("accounts", "erase", ada, "--reason", "asked to").code == 2
    assert shell.ok("accounts", "erase", ada, "--reason", "asked to", "--yes") == "erased\n"
    assert shell("accounts", "show", ada).code == 1
    again = shell.ok("accounts", "erase", account_id, "--reason", "asked to", "--yes")
    assert again == "it was erased before\n"
    assert shell.json("accounts", "list")["accounts"][0]["state"] == "erased"


def test_members_come_change_and_go(shell: Shell, conn: Conn) -> None:
    conn.execute("select pgsaas.create_account(p_kind => 'organization', p_external_id => 'org')")
    members = ("accounts", "members")
    assert shell(*members, "list", "org").err == "it has no members\n"
    assert shell.ok(*members, "add", "org", "7", "--role", "owner") == "7 is owner\n"
    assert shell.ok(*members, "add", "org", "8") == "8 is member\n"
    conflict = shell(*members, "add", "org", "8", "--role", "admin")
    assert (conflict.code, conflict.err) == (
        1,
        "pgsaas: the user is a member already, as member. set_member_role (pgsaas accounts "
        "members role) changes that.\n",
    )
    assert shell.ok(*members, "role", "org", "8", "billing") == "8 is billing\n"
    assert shell(*members, "role", "org", "8", "king").code == 2
    assert shell(*members, "remove", "org", "7").code == 1
    assert shell.json(*members, "remove", "org", "8") == {"removed": True}
    assert shell.ok(*members, "remove", "org", "8") == "8 was no member\n"
    assert [row["user_id"] for row in shell.json(*members, "list", "org")["members"]] == ["7"]


def test_an_account_is_shown_with_all_it_has(shell: Shell, ada: str) -> None:
    shell.ok("credits", "hold", ada, "60", "--description", "a film")
    shell.ok("accounts", "members", "add", ada, "7")
    shown = shell.ok("accounts", "show", ada)
    for line in ("external id        ada", "held               60", "open grants:", "members:"):
        assert line in shown
    whole = shell.json("accounts", "show", ada)
    assert (whole["holds"][0]["amount"], whole["members"][0]["user_id"]) == (60, "7")


def test_a_lapsed_hold_is_not_shown_as_open(shell: Shell, conn: Conn, ada: str) -> None:
    shell.ok("credits", "hold", ada, "60")
    conn.execute("select pgsaas.advance_clock('1 hour')")
    shown = shell.json("accounts", "show", ada)
    assert (shown["holds"], shown["balance"]["held"]) == ([], 0)


def test_control_characters_are_shown_and_not_obeyed(shell: Shell) -> None:
    shell.ok("accounts", "create", "--name", "a\nb\x1b[31mc")
    listed = shell.ok("accounts", "list")
    assert "a\\nb\\x1b[31mc" in listed
    assert len(listed.splitlines()) == 2


def test_verify_counts_what_it_looked_at(shell: Shell, ada: str) -> None:
    shell.ok("credits", "deduct", ada, "1")
    assert shell.ok("verify") == "all is well: 1 account and 2 ledger rows checked\n"
    assert shell.json("verify", ada) == {"violations": [], "accounts": 1, "rows": 2}


def test_verify_names_what_does_not_add_up(shell: Shell, conn: Conn, ada: str) -> None:
    conn.execute("update pgsaas.account_balances set balance = balance + 1")
    wrong = shell("verify")
    assert wrong.code == 1
    assert "balance is the sum of the ledger: balance 501, ledger 500" in wrong.out
    assert "violations in 1 account and 1 ledger row" in wrong.err
    as_json = shell("verify", "--json")
    assert as_json.code == 1
    rules = [each["rule"] for each in as_json.json["violations"]]
    assert "balance is the sum of the ledger" in rules


def test_an_account_is_found_by_its_address(shell: Shell, conn: Conn) -> None:
    for name in ("one", "two"):
        conn.execute("select pgsaas.create_account(p_name => %s, p_email => 'a@x.org')", [name])
    conn.execute("select pgsaas.create_account(p_email => 'b@x.org', p_external_id => 'b')")
    conn.execute("select pgsaas.create_account(p_email => 'c@x.org', p_external_id => 'b@x.org')")
    assert shell("accounts", "show", "a@x.org").err == (
        'pgsaas: "a@x.org" names 2 accounts: give the account id\n'
    )
    meant = shell.json("accounts", "show", "b@x.org")["account"]
    assert meant["email"] == "c@x.org"  # an external id goes before an address
    assert shell.json("accounts", "show", "c@x.org")["account"] == meant


def test_a_list_names_each_account_once_and_briefly(shell: Shell, users: Conn) -> None:
    shell.ok("attach", "public.users", "--email", "email")
    shell.ok("accounts", "create", "--kind", "organization", "--name", "Film Co")
    lines = shell.ok("accounts", "list").splitlines()
    assert lines[0].split() == ["account", "id", "external", "id", "called", "state", "available"]
    assert max(map(len, lines)) <= 80
    listed = "\n".join(lines)
    assert "public.users:1  1@x.org" in listed
    assert "Film Co" in listed


def test_a_grant_that_counts_later_says_so(shell: Shell, ada: str) -> None:
    added = shell.ok("credits", "add", ada, "5", "--effective", "2130-01-01")
    assert added.startswith("added 5 from 2130-01-01 00:00:00Z on (grant 2): balance 500")
    assert "2130-01-01 00:00:00Z" in shell.ok("accounts", "show", ada)
