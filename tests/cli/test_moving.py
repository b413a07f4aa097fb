"""Moving in: balances of another system become grants once, and both are compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.conftest import Conn


@pytest.fixture
def host(shell: Shell, conn: Conn) -> Conn:
    """Users with credits of the application's own, attached."""
    conn.execute("create table public.users (id bigint primary key, credits numeric)")
    conn.execute("insert into public.users values (1, 100), (2, 0), (3, 7.25), (4, null)")
    shell.ok("attach", "public.users")
    return conn


def balances(conn: Conn) -> list[tuple[object, ...]]:
    return conn.execute(
        "select x.external_id, b.balance from pgsaas.credit_balances b"
        " join pgsaas.account_external_ids x using (account_id) order by 1"
    ).fetchall()


def test_balances_of_a_column_are_granted_once(shell: Shell, host: Conn) -> None:
    done = shell.json("import-balances", "public.users", "credits")
    assert done == {"imported": 2, "credits": 107.25, "imported_before": 0}
    assert balances(host) == [("1", 100), ("2", 0), ("3", pytest.approx(7.25)), ("4", 0)]
    host.execute("select pgsaas.deduct_credits(pgsaas.account_id_for('1'), 30)")
    assert shell.json("import-balances", "public.users", "credits")["imported"] == 0
    assert balances(host)[0] == ("1", 70)
    grant = host.execute(
        "select source, amount from pgsaas.credit_grants where account_id ="
        " pgsaas.account_id_for('3')"
    ).fetchone()
    assert grant == ("purchase", pytest.approx(7.25))
    host.execute("insert into public.users values (5, 9)")
    assert shell.json("import-balances", "public.users", "credits", "--as", "bonus") == {
        "imported": 1,
        "credits": 9,
        "imported_before": 2,
    }
    host.execute("alter table public.users add bonus numeric default 1")
    bonus = ("import-balances", "public.users", "bonus", "--as", "bonus", "--key", "bonus")
    assert shell.ok(*bonus) == "5 balances, 5 credits\n"
    assert shell.ok(*bonus) == "0 balances, 0 credits; 5 before\n"
    assert shell.ok("verify").startswith("all is well")


@pytest.mark.parametrize("wrong", ["-1", "0.0000001", "10000000000000", "'NaN'"])
def test_a_balance_that_cannot_be_a_grant_stops_all_of_it(
    shell: Shell, host: Conn, wrong: str
) -> None:
    host.execute(f"insert into public.users values (9, {wrong})".encode())
    refused = shell("import-balances", "public.users", "credits")
    assert refused.code == 1
    assert "the balance of 9 cannot be a grant" in refused.err
    assert refused.err.count("\n") == 1
    assert {balance for _, balance in balances(host)} == {0}


def test_what_is_no_such_table_or_column_is_said(shell: Shell, host: Conn) -> None:
    host.execute("create table public.others (id bigint primary key, credits text)")
    assert "table public.others is not attached" in (
        shell("import-balances", "public.others", "credits").err
    )
    assert 'no column "points" of numbers' in (
        shell("import-balances", "public.users", "points").err
    )
    assert "such as public.users" in shell("import-balances", "nowhere", "credits").err
    assert "say which COLUMN has the balances" in shell("import-balances", "public.users").err


def test_balances_of_a_file_are_granted_once_or_not_at_all(
    shell: Shell, host: Conn, tmp_path: Path
) -> None:
    file = tmp_path / "old.csv"
    file.write_text("who,left\n1,5\n3,0\n2,2.5\n")
    options = ["--account", "who", "--balance", "left"]
    assert shell.json("import-balances", str(file), *options) == {
        "imported": 2,
        "credits": 7.5,
        "imported_before": 0,
    }
    assert shell.json("import-balances", str(file), *options)["imported"] == 0
    for line, said in (
        ("8,1", 'line 5: no account "8"'),
        ("4,-1", "line 5: amount must be above 0"),
        ("4,x", "line 5: left is no number"),
        ("4", "line 5: 2 columns are needed"),
        ("1,5", "line 5: line 2 has a balance of this account already"),
    ):
        file.write_text(f"who,left\n1,5\n3,1\n2,2.5\n{line}\n")
        refused = shell("import-balances", str(file), *options)
        assert refused.code == 1
        assert said in refused.err
        assert balances(host)[2] == ("3", 0)


def test_in_shadow_nothing_is_refused_and_differences_are_told(shell: Shell, host: Conn) -> None:
    shell.ok("import-balances", "public.users", "credits")
    shell.ok("settings", "set", "shadow", "true")
    assert shell.ok("compare-balances", "public.users", "credits") == ""
    assert shell("compare-balances", "public.users", "credits").err == "all 4 accounts agree\n"
    host.execute("update public.users set credits = credits - 110 where id = 1")
    told = shell("credits", "deduct", "1", "110")
    assert (told.code, told.out) == (0, "deducted 110: balance -10, row 2, available 0\n")
    assert shell("compare-balances", "public.users", "credits").code == 0
    shell.ok("credits", "hold", "3", "10")
    shell.ok("credits", "capture", "3", "1", "12")
    differing = shell("compare-balances", "public.users", "credits", "--json")
    assert differing.code == 5
    assert (differing.json["theirs"], differing.json["ours"]) == (-2.75, -14.75)
    assert [d["external_id"] for d in differing.json["differences"]] == ["3"]
    assert "the setting shadow is on" in shell("doctor").out + shell("doctor").err
    assert differing.json["differences"][0]["difference"] == -12
    shell.ok("settings", "set", "shadow", "false")
    assert shell("credits", "deduct", "1", "1").code == 1
    assert shell.ok("verify").startswith("all is well")


def test_a_balance_that_is_no_number_is_named(shell: Shell, host: Conn) -> None:
    host.execute("alter table public.users alter credits type float8")
    host.execute("update public.users set credits = 'NaN' where id < 3")
    refused = shell("compare-balances", "public.users", "credits")
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "is no number: NaN" in refused.err
