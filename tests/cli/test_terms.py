"""Terms of an account and settings of the installation."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Shell
from tests.conftest import Conn


def test_an_account_gets_other_terms(shell: Shell, ada: str) -> None:
    said = shell.ok(
        *("accounts", "set", ada, "--name", "Ada", "--email", "ada@x.org", "--profile"),
        *('{"seats": 2}', "--overdraft-limit", "50", "--reason", "a good customer"),
        *("--burn-order", "expiring_first", "--low-balance-at", "100"),
    )
    shown = shell.json("accounts", "show", ada)
    assert said == f"changed {shown['account']['account_id']}\n"
    assert shown["account"]["name"] == "Ada"
    assert shown["account"]["profile"] == {"seats": 2}
    assert (shown["balance"]["overdraft_limit"], shown["balance"]["available"]) == (50, 550)


def test_a_threshold_can_be_taken_away(shell: Shell, ada: str, conn: Conn) -> None:
    query = "select low_balance_at from pgsaas.credit_balances"
    shell.ok("accounts", "set", ada, "--low-balance-at", "0.5")
    assert conn.execute(query).fetchone() is not None
    shell.ok("accounts", "set", ada, "--low-balance-at", "none")
    assert conn.execute(query).fetchone() == (None,)


def test_terms_change_together_or_not_at_all(shell: Shell, ada: str) -> None:
    wrong = shell("accounts", "set", ada, "--name", "Eva", "--burn-order", "backwards")
    assert wrong.code == 1
    assert wrong.err == "pgsaas: burn order must be purchased_first or expiring_first\n"
    assert shell.json("accounts", "show", ada)["account"]["name"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "nothing to change"),
        (["--overdraft-limit", "5"], "--overdraft-limit needs a --reason"),
        (["--overdraft-limit", "much", "--reason", "x"], "'much' is no amount"),
        (["--low-balance-at", "low"], "'low' is no amount"),
        (["--profile", "[]"], "is no JSON object"),
    ],
)
def test_wrong_terms_are_a_usage_error(
    shell: Shell, ada: str, options: list[str], said: str
) -> None:
    wrong = shell("accounts", "set", ada, *options)
    assert (wrong.code, said in wrong.err) == (2, True)


def test_settings_are_listed_and_changed(shell: Shell) -> None:
    before = shell.json("settings", "list")
    assert before["default_burn_order"] == "purchased_first"
    assert shell.ok("settings", "set", "default_low_balance_at", "100") == (
        "default_low_balance_at is now 100\n"
    )
    assert shell.json("settings", "list") == before | {"default_low_balance_at": 100}
    assert shell.ok("settings", "set", "default_low_balance_at", "none") == (
        "default_low_balance_at is now none\n"
    )
    assert "default_low_balance_at  none\n" in shell.ok("settings", "list")


def test_a_setting_that_cannot_be_is_refused_in_one_line(shell: Shell) -> None:
    unknown = shell("settings", "set", "colour", "red")
    assert (unknown.code, unknown.err.count("\n")) == (1, 1)
    assert unknown.err.startswith('pgsaas: no setting "colour"')
    wrong = shell("settings", "set", "default_low_balance_at", "-1")
    assert wrong.code == 1
    assert wrong.err.startswith('pgsaas: setting "default_low_balance_at" cannot be "-1"')
