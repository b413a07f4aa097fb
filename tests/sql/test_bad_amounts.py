from __future__ import annotations

from decimal import Decimal

import pytest

from tests.sql.ledger import Ledger
from tests.sql.scene import AMOUNTS, Scene, play

WRONG = ["NaN", "Infinity", "-Infinity", None, "0", "-1", "-0.000001", "0.0000001", "1.0000001",
         "1000000000001", "1000000000000.000001", "1e30"]  # fmt: skip
RIGHT = ["1000000000000", "0.000001", "5.0000000000"]
ALLOWED = {
    ("refund_credits", None),  # all of it
    ("revoke_grant", None),
    ("capture_hold", None),
    ("set_low_balance_at", None),  # never
    ("set_low_balance_at", "0"),
    ("set_overdraft_limit", "0"),
    ("adjust_credits", "-1"),
    ("adjust_credits", "-0.000001"),
}


@pytest.fixture
def scene(ledger: Ledger) -> Scene:
    return play(ledger)


@pytest.mark.parametrize("function", AMOUNTS)
@pytest.mark.parametrize("amount", WRONG)
def test_an_amount_that_can_never_be_right_raises_and_changes_nothing(
    scene: Scene, function: str, amount: str | None
) -> None:
    if (function, amount) in ALLOWED:
        assert scene.call(function, **{AMOUNTS[function]: amount})["success"]
        return
    with scene.ledger.raises("22023"):
        scene.call(function, **{AMOUNTS[function]: amount})


@pytest.mark.parametrize("function", AMOUNTS)
@pytest.mark.parametrize("amount", RIGHT)
def test_an_amount_at_the_edge_is_no_wrong_argument(
    scene: Scene, function: str, amount: str
) -> None:
    before = scene.ledger.state()
    answer = scene.call(function, **{AMOUNTS[function]: amount})
    small_enough = Decimal(amount) < 1000
    always = function in ("add_credits", "adjust_credits", "set_overdraft_limit",
                          "set_low_balance_at")  # fmt: skip
    assert answer["success"] is (small_enough or always)
    if not answer["success"]:
        assert scene.ledger.state() == before
    assert scene.ledger.violations() == []


@pytest.mark.parametrize("zeros", [10, 6000])
def test_no_balance_ever_shows_more_than_six_decimals(ledger: Ledger, zeros: int) -> None:
    account = ledger.account(10)
    ledger.done("add_credits", account, "5." + "0" * zeros)
    ledger.done("deduct_credits", account, 1)
    shown = ledger.scalar(
        "select max(scale(balance_after)) from pgsaas.credit_transactions where account_id = %s",
        account,
    )
    assert shown <= 6
    assert ledger.scalar("select scale(balance) from pgsaas.get_balance(%s)", account) <= 6


def test_the_largest_balance_of_many_grants_is_exact(ledger: Ledger) -> None:
    account = ledger.account()
    for _ in range(3):
        ledger.done("add_credits", account, "1000000000000")
    answer = ledger.done("deduct_credits", account, "0.000001")
    assert answer["new_balance"] == Decimal("2999999999999.999999")
    assert ledger.violations() == []
