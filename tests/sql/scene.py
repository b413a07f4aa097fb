"""Two accounts with a past, and a good call of every function, to be spoilt by an argument."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from tests.sql.ledger import START, Ledger, Row

AMOUNTS = {
    "deduct_credits": "p_amount",
    "hold_credits": "p_amount",
    "add_credits": "p_amount",
    "refund_credits": "p_amount",
    "revoke_grant": "p_amount",
    "transfer_credits": "p_amount",
    "adjust_credits": "p_amount",
    "capture_hold": "p_amount",
    "set_overdraft_limit": "p_limit",
    "set_low_balance_at": "p_low_balance_at",
}
KEYED = (
    "deduct_credits",
    "hold_credits",
    "add_credits",
    "refund_credits",
    "revoke_grant",
    "transfer_credits",
    "adjust_credits",
    "capture_hold",
)
ANSWERING = (*KEYED, "extend_hold", "release_hold", "set_overdraft_limit", "set_burn_order",
             "set_low_balance_at")  # fmt: skip
TEXTS = {
    "deduct_credits": "p_description",
    "hold_credits": "p_description",
    "add_credits": "p_description",
    "transfer_credits": "p_description",
    "refund_credits": "p_reason",
    "revoke_grant": "p_reason",
    "adjust_credits": "p_reason",
    "set_overdraft_limit": "p_reason",
    "freeze_account": "p_reason",
    "unfreeze_account": "p_reason",
    "erase_account": "p_reason",
    "set_setting": "p_reason",
    "add_platform_admin": "p_reason",
}


@dataclass(frozen=True, slots=True)
class Scene:
    """`one` has 1,000 purchased credits (grant 1), 100 charged (row 2), 50 held (hold 1)."""

    ledger: Ledger
    one: UUID
    two: UUID

    def arguments(self, function: str) -> Row:
        """Arguments with which the function does something."""
        account: Row = {"p_account_id": self.one}
        more: dict[str, Row] = {
            "deduct_credits": {"p_amount": 5},
            "hold_credits": {"p_amount": 5},
            "add_credits": {"p_amount": 5},
            "refund_credits": {"p_seq": 2, "p_amount": 5},
            "revoke_grant": {"p_grant_id": 1, "p_amount": 5},
            "adjust_credits": {"p_amount": 5, "p_reason": "a wrong charge"},
            "capture_hold": {"p_hold_id": 1, "p_amount": 5},
            "release_hold": {"p_hold_id": 1},
            "extend_hold": {"p_hold_id": 1},
            "set_overdraft_limit": {"p_limit": 5, "p_reason": "a good customer"},
            "set_burn_order": {"p_burn_order": "expiring_first"},
            "set_low_balance_at": {"p_low_balance_at": 5},
            "freeze_account": {"p_reason": "a stolen card"},
            "unfreeze_account": {"p_reason": "a found card"},
            "erase_account": {"p_reason": "they asked"},
        }
        if function == "transfer_credits":
            return {"p_from": self.one, "p_to": self.two, "p_amount": 5}
        if function == "set_setting":
            return {"p_name": "clawback", "p_value": "unrecovered"}
        if function == "add_platform_admin":
            return {"p_user_id": "ada"}
        return account | more[function]

    def call(self, function: str, **changes: object) -> Row:
        return self.ledger.call(function, **self.arguments(function) | changes)


def play(ledger: Ledger) -> Scene:
    """Set the scene, a month before START; at START nothing is due."""
    ledger.at(START.replace(month=2))
    ledger.call("set_setting", "transfer_scope", "any")
    one = ledger.account(1000)
    two = ledger.account()
    ledger.done("deduct_credits", one, 100)
    ledger.at(START)
    ledger.done("hold_credits", one, 50, "1 day")
    return Scene(ledger, one, two)
