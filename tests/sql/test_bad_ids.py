from __future__ import annotations

from uuid import UUID

import pytest

from tests.sql.ledger import NOBODY, START, Ledger, code
from tests.sql.scene import ANSWERING, Scene, play

UNKNOWN_IDS = [99, 0, -1, None, 2**63 - 1, -(2**63)]


@pytest.fixture
def scene(ledger: Ledger) -> Scene:
    return play(ledger)


@pytest.mark.parametrize("function", ANSWERING)
@pytest.mark.parametrize("account", [NOBODY, None])
def test_an_unknown_account_is_an_answer(scene: Scene, function: str, account: UUID | None) -> None:
    before = scene.ledger.state()
    which = ("p_from", "p_to") if function == "transfer_credits" else ("p_account_id",)
    for parameter in which:
        answer = scene.call(function, **{parameter: account})
        assert code(answer) == "ACCOUNT_NOT_FOUND"
        assert (answer["seq"], answer["new_balance"], answer["available"]) == (None, None, None)
        assert answer["replayed"] is False
    assert scene.ledger.state() == before


@pytest.mark.parametrize(
    "function",
    ["freeze_account", "unfreeze_account", "erase_account", "update_account", "export_account",
     "add_member", "set_member_role", "remove_member", "explain_deduction"],
)  # fmt: skip
@pytest.mark.parametrize("account", [NOBODY, None])
def test_functions_without_an_error_code_raise_for_an_unknown_account(
    scene: Scene, function: str, account: UUID | None
) -> None:
    more: dict[str, tuple[object, ...]] = {
        "update_account": (),
        "export_account": (),
        "add_member": ("ada", "owner"),
        "set_member_role": ("ada", "owner"),
        "remove_member": ("ada",),
        "explain_deduction": (2,),
    }
    with scene.ledger.raises("PT404"):
        scene.ledger.call(function, account, *more.get(function, ("a reason",)))


@pytest.mark.parametrize("account", [NOBODY, None])
def test_readers_show_nothing_of_an_unknown_account(scene: Scene, account: UUID | None) -> None:
    assert scene.ledger.call_all("get_balance", account) == []
    assert scene.ledger.call_all("list_transactions", account) == []
    assert scene.ledger.call("balance_at", account, START) == {"balance_at": None}
    assert scene.ledger.call("lock_accounts", [account]) == {"lock_accounts": 0}
    assert scene.ledger.call("my_role", account) == {"my_role": None}


@pytest.mark.parametrize("function", ["capture_hold", "release_hold", "extend_hold"])
@pytest.mark.parametrize("hold", UNKNOWN_IDS)
def test_an_unknown_hold_is_an_answer(scene: Scene, function: str, hold: int | None) -> None:
    before = scene.ledger.state()
    assert code(scene.call(function, p_hold_id=hold)) == "HOLD_NOT_FOUND"
    assert scene.ledger.state() == before


@pytest.mark.parametrize("seq", UNKNOWN_IDS)
@pytest.mark.parametrize("amount", [None, 5])
def test_an_unknown_row_cannot_be_refunded(
    scene: Scene, seq: int | None, amount: int | None
) -> None:
    before = scene.ledger.state()
    answer = scene.call("refund_credits", p_seq=seq, p_amount=amount)
    assert code(answer) == "NOT_REFUNDABLE"
    assert scene.ledger.state() == before


@pytest.mark.parametrize("grant", UNKNOWN_IDS)
@pytest.mark.parametrize("amount", [None, 5])
def test_an_unknown_grant_cannot_be_revoked(
    scene: Scene, grant: int | None, amount: int | None
) -> None:
    before = scene.ledger.state()
    answer = scene.call("revoke_grant", p_grant_id=grant, p_amount=amount)
    assert code(answer) == "NOT_REFUNDABLE"
    assert answer["error_message"] == "no such grant"
    assert scene.ledger.state() == before


@pytest.mark.parametrize("seq", UNKNOWN_IDS)
def test_an_unknown_row_cannot_be_explained(scene: Scene, seq: int | None) -> None:
    with scene.ledger.raises("PT404"):
        scene.ledger.call("explain_deduction", scene.one, seq)


def test_anothers_hold_row_and_grant_are_unknown(scene: Scene) -> None:
    assert code(scene.call("capture_hold", p_account_id=scene.two)) == "HOLD_NOT_FOUND"
    assert code(scene.call("release_hold", p_account_id=scene.two)) == "HOLD_NOT_FOUND"
    assert code(scene.call("refund_credits", p_account_id=scene.two)) == "NOT_REFUNDABLE"
    assert code(scene.call("revoke_grant", p_account_id=scene.two)) == "NOT_REFUNDABLE"


@pytest.mark.parametrize("source", ["gift", "", None, "Purchase"])
def test_an_unknown_source_raises(scene: Scene, source: str | None) -> None:
    with scene.ledger.raises("22023"):
        scene.call("add_credits", p_source=source)


@pytest.mark.parametrize("priority", [-32769, 32768, 2**31 - 1])
def test_a_priority_that_cannot_be_stored_raises(scene: Scene, priority: int) -> None:
    with scene.ledger.raises("22023"):
        scene.call("add_credits", p_priority=priority)


@pytest.mark.parametrize(
    ("expires", "effective"),
    [
        ("2026-03-10 12:00Z", None),  # now
        ("-infinity", None),
        ("2026-03-09Z", "2026-03-08Z"),
        ("2026-04-01Z", "2026-04-01Z"),
        ("2026-04-01Z", "2026-05-01Z"),
        (None, "infinity"),
        ("infinity", "infinity"),
    ],
)
def test_credits_that_can_never_be_spent_raise(
    scene: Scene, expires: str | None, effective: str | None
) -> None:
    with scene.ledger.raises("22023"):
        scene.call("add_credits", p_expires_at=expires, p_effective_at=effective)


@pytest.mark.parametrize("order", ["", "newest_first", None])
def test_an_unknown_burn_order_raises(scene: Scene, order: str | None) -> None:
    with scene.ledger.raises("22023"):
        scene.call("set_burn_order", p_burn_order=order)


@pytest.mark.parametrize("limit", [0, -1, 1001, None])
def test_a_page_has_1_to_1000_rows(scene: Scene, limit: int | None) -> None:
    with scene.ledger.raises("22023"):
        scene.ledger.call_all("list_transactions", scene.one, p_limit=limit)


def test_an_unknown_transaction_type_raises(scene: Scene) -> None:
    with scene.ledger.raises("22023"):
        scene.ledger.call_all("list_transactions", scene.one, p_type="gift")


@pytest.mark.parametrize("at", [None, "infinity", "2026-03-10 12:00:00.000001Z"])
def test_no_balance_is_known_for_the_future(scene: Scene, at: str | None) -> None:
    with scene.ledger.raises("22023"):
        scene.ledger.call("balance_at", scene.one, at)


def test_a_transfer_to_oneself_raises(scene: Scene) -> None:
    with scene.ledger.raises("22023"):
        scene.call("transfer_credits", p_to=scene.one)


def test_nobody_transfers_to_nobody(scene: Scene) -> None:
    answer = scene.call("transfer_credits", p_from=None, p_to=None)
    assert code(answer) == "ACCOUNT_NOT_FOUND"
