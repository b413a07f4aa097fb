"""Credits from the command line: what is said, what is answered, what is refused."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from tests.cli.conftest import Shell
from tests.conftest import Conn


def test_credits_are_added_and_deducted_exactly(shell: Shell, ada: str) -> None:
    assert shell.ok("credits", "add", ada, "100.50") == (
        "added 100.5 (grant 2): balance 600.5, row 2, available 600.5\n"
    )
    assert shell.ok("credits", "deduct", ada, "120.500000", "--description", "a film") == (
        "deducted 120.5: balance 480, row 3, available 480\n"
    )


def test_json_holds_amounts_as_exact_numbers(shell: Shell, ada: str) -> None:
    added = shell("credits", "add", ada, "999999999999.123457", "--json")
    assert '"new_balance": 1000000000499.123457' in added.out
    answer = shell.json("credits", "deduct", ada, "0.25")
    assert (answer["success"], answer["seq"], answer["replayed"]) == (True, 3, False)
    balance = json.loads(shell("credits", "balance", ada, "--json").out, parse_float=Decimal)
    assert balance["balance"] == Decimal("1000000000498.873457")
    assert balance["by_source"]["bonus"] == Decimal("999999999999.123457")


def test_a_key_has_one_effect(shell: Shell, ada: str) -> None:
    shell.ok("credits", "deduct", ada, "20", "--key", "k")
    again = shell.ok("credits", "deduct", ada, "20", "--key", "k")
    assert again == (
        "this was done before, nothing changed; then: balance 480, row 2, available 480\n"
    )
    other = shell("credits", "deduct", ada, "21", "--key", "k")
    assert (other.code, other.out) == (1, "")
    assert 'idempotency key "k" was used for another request' in other.err


def test_a_refusal_is_one_line_and_exit_1(shell: Shell, ada: str) -> None:
    refused = shell("credits", "deduct", ada, "500.01")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == (
        "pgsaas: not enough credits: 500.01 needed, 500 available (INSUFFICIENT_CREDITS)\n"
    )


def test_a_refusal_as_json_is_the_whole_answer(shell: Shell, ada: str) -> None:
    refused = shell("credits", "deduct", ada, "500.01", "--json")
    assert refused.code == 1
    assert refused.json == {
        "success": False,
        "new_balance": 500,
        "available": 500,
        "error_code": "INSUFFICIENT_CREDITS",
        "error_message": "not enough credits: 500.01 needed, 500 available",
        "seq": None,
        "replayed": False,
    }


def test_a_hold_is_extended_captured_and_closed(shell: Shell, ada: str) -> None:
    held = shell.ok("credits", "hold", ada, "60", "--ttl", "10 minutes")
    assert held.startswith("hold 1 keeps 60 until 2")
    assert held.endswith("Z: balance 500, available 440\n")
    assert shell.json("credits", "extend", ada, "1", "--ttl", "1 hour")["success"]
    captured = shell.ok("credits", "capture", ada, "1", "42.25", "--key", "c")
    assert captured == "captured 42.25: balance 457.75, row 2, available 457.75\n"
    closed = shell("credits", "capture", ada, "1")
    assert (closed.code, closed.err) == (1, "pgsaas: the hold is captured (HOLD_CLOSED)\n")


def test_a_hold_is_released(shell: Shell, ada: str) -> None:
    shell.ok("credits", "hold", ada, "60")
    assert shell.ok("credits", "release", ada, "1") == "released: balance 500, available 500\n"
    assert shell("credits", "release", ada, "2").err == "pgsaas: no such hold (HOLD_NOT_FOUND)\n"


def test_more_than_was_held_can_be_owed(shell: Shell, ada: str) -> None:
    shell.ok("credits", "hold", ada, "500")
    assert shell("credits", "capture", ada, "1", "600").code == 1
    owed = shell.json("credits", "capture", ada, "1", "600", "--shortfall", "debt")
    assert (owed["captured"], owed["new_balance"]) == (600, -100)


def test_a_refused_hold_says_why(shell: Shell, ada: str) -> None:
    refused = shell("credits", "hold", ada, "501")
    assert refused.code == 1
    assert refused.err.endswith("(INSUFFICIENT_CREDITS)\n")


def test_a_charge_is_refunded_in_part_and_explained(shell: Shell, ada: str) -> None:
    shell.ok("credits", "deduct", ada, "120.5")
    refunded = shell.ok("credits", "refund", ada, "2", "20.5", "--reason", "noise")
    assert refunded == "refunded row 2: balance 400, row 3, available 400\n"
    assert shell.ok("credits", "explain", ada, "2").splitlines() == [
        "part  grant id  source    amount  refunded  expires at",
        "   1         1  purchase   120.5      20.5",
    ]
    too_much = shell("credits", "refund", ada, "2", "101")
    assert (too_much.code, too_much.err) == (
        1,
        "pgsaas: at most 100 can be refunded (REFUND_EXCEEDS)\n",
    )
    assert shell("credits", "explain", ada, "1").err == "pgsaas: no such deduction or capture\n"


def test_a_grant_is_revoked_and_a_balance_adjusted(shell: Shell, ada: str) -> None:
    revoked = shell.ok("credits", "revoke", ada, "1", "100", "--reason", "dispute")
    assert revoked == "revoked grant 1: balance 400, row 2, available 400\n"
    adjusted = shell.ok("credits", "adjust", ada, "-5", "--reason", "typo")
    assert adjusted == "adjusted by -5: balance 395, row 3, available 395\n"
    assert shell("credits", "adjust", ada, "5").code == 2


def test_credits_move_within_an_organization(shell: Shell, conn: Conn, ada: str) -> None:
    conn.execute("select pgsaas.create_account(p_kind => 'organization', p_external_id => 'org')")
    refused = shell("credits", "transfer", ada, "org", "5")
    assert (refused.code, refused.err) == (
        1,
        "pgsaas: the accounts share no organization (NOT_TRANSFERABLE)\n",
    )
    shell.ok("accounts", "members", "add", "org", "ada", "--role", "owner")
    shell.ok("credits", "add", ada, "10")
    moved = shell.ok("credits", "transfer", ada, "org", "5", "--description", "a gift")
    assert moved == "transferred 5: balance 505, row 3, available 505\n"
    assert shell.json("credits", "balance", "org")["available"] == 5


def test_history_pages_from_the_newest_row(shell: Shell, ada: str) -> None:
    for amount in ("1", "2"):
        shell.ok("credits", "deduct", ada, amount)
    first = shell.json("credits", "history", ada, "--limit", "2")
    assert [row["seq"] for row in first["transactions"]] == [3, 2]
    rest = shell.json("credits", "history", ada, "--limit", "2", "--before", str(first["next"]))
    assert [row["seq"] for row in rest["transactions"]] == [1]
    assert rest["next"] is None
    plain = shell("credits", "history", ada, "--limit", "2")
    assert plain.err == "there are more: --before 2\n"
    assert plain.out.splitlines()[0].split() == (
        ["seq", "created", "at", "transaction", "type", "amount", "balance", "after", "description"]
    )
    only = shell.json("credits", "history", ada, "--type", "grant")
    assert [row["amount"] for row in only["transactions"]] == [500]


def test_an_empty_history_prints_nothing_on_stdout(shell: Shell, conn: Conn) -> None:
    conn.execute("select pgsaas.create_account(p_external_id => 'bo')")
    nothing = shell("credits", "history", "bo")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "there are no rows\n")


def test_the_balance_of_a_past_moment_is_known(shell: Shell, ada: str) -> None:
    assert shell.ok("credits", "balance", ada, "--at", "2020-01-01T00:00:00Z") == "0\n"
    future = shell("credits", "balance", ada, "--at", "2999-01-01")
    assert future.code == 1
    assert "a balance is known up to now" in future.err


def test_credits_that_never_expire_are_shown_without_a_time(shell: Shell, ada: str) -> None:
    shell.ok("credits", "add", ada, "7", "--expires", "2999-01-31T12:00:00")
    shown = shell.json("accounts", "show", ada)
    assert [grant["expires_at"] for grant in shown["grants"]] == [
        None,
        "2999-01-31T12:00:00+00:00",
    ]


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        ("NaN", "at most 6 decimals: NaN"),
        ("Infinity", "at most 6 decimals: Infinity"),
        ("0", "at most 6 decimals: 0"),
        ("-5", "at most 6 decimals: -5"),
        ("0.0000001", "at most 6 decimals: 0.0000001"),
        ("1000000000000.000001", "at most 10^12"),
        ("1e400000", "overflow"),
    ],
)
@pytest.mark.parametrize("verb", ["add", "deduct", "hold"])
def test_an_amount_that_can_never_be_right_is_refused(
    shell: Shell, ada: str, verb: str, amount: str, said: str
) -> None:
    refused = shell("credits", verb, ada, amount)
    assert (refused.code, refused.out) == (1, "")
    assert said in refused.err
    assert refused.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--key", ""], "idempotency key must have 1 to 255 bytes, not 0"),
        (["--key", "k" * 256], "idempotency key must have 1 to 255 bytes, not 256"),
        (["--key", "ä" * 128], "idempotency key must have 1 to 255 bytes, not 256"),
        (["--description", "d" * 4097], "description or reason must not exceed 4096 bytes"),
        (["--source", "gift"], "Sources are allowance, rollover"),
        (["--expires", "2020-01-01"], "already expired"),
        (["--priority", "99999"], "priority must be between"),
        (["--description", "\udcff"], "an argument is no valid text"),
    ],
)
def test_a_wrong_argument_is_one_line(
    shell: Shell, ada: str, arguments: list[str], said: str
) -> None:
    refused = shell("credits", "add", ada, "5", *arguments)
    assert (refused.code, refused.out) == (1, "")
    assert said in refused.err
    assert refused.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["five"],
        ["1,000"],
        ["5", "--metadata", "[1]"],
        ["5", "--metadata", "{"],
        ["5", "--job", "7"],
        ["5", "--unknown"],
        [],
    ],
)
def test_what_cannot_be_read_is_a_usage_error(shell: Shell, ada: str, arguments: list[str]) -> None:
    assert shell("credits", "deduct", ada, *arguments).code == 2


def test_metadata_and_job_and_agent_reach_the_ledger(shell: Shell, ada: str) -> None:
    job = "11111111-2222-3333-4444-555555555555"
    shell.ok(
        *("credits", "deduct", ada, "5", "--job", job, "--agent", "painter"),
        *("--metadata", '{"model": "large", "cost": 0.1234567890123456789}'),
    )
    printed = shell("credits", "history", ada, "--limit", "1", "--json").out
    row = json.loads(printed)["transactions"][0]
    assert (row["job_id"], row["agent_id"], row["metadata"]["model"]) == (job, "painter", "large")
    assert '"cost": 0.1234567890123456789' in printed


def test_a_hold_for_a_bare_number_is_a_usage_error(shell: Shell, ada: str) -> None:
    wrong = shell("credits", "hold", ada, "5", "--ttl", "5")
    assert (wrong.code, "Say '5 minutes'" in wrong.err) == (2, True)
