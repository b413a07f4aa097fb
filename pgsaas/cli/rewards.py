"""pgsaas rewards: promotion codes and referrals."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from pgsaas.call import call, read
from pgsaas.cli import arguments
from pgsaas.cli.output import ERROR, Output, pass_output, shared_options
from pgsaas.cli.session import find_account, open_ledger
from pgsaas.cli.table import counted, plain

LISTED = (
    "reward_id",
    "kind",
    "credits",
    "referrer_credits",
    "expires_after",
    "starts_at",
    "ends_at",
    "account_age",
    "redeemed",
    "active",
)


@click.group()
@shared_options
def rewards() -> None:
    """Redeem promotion codes, refer accounts, and see what rewards there are.

    ACCOUNT is an account id, the external id of a user, realm:external-id or an address. The
    catalog makes rewards: `pgsaas catalog apply`.
    """


@rewards.command(name="list")
@shared_options
@pass_output
def list_rewards(output: Output) -> None:
    """List promotion codes and what a referral is worth."""
    with open_ledger(output) as conn:
        found = read(conn, "rewards", order_by="reward_id")
    listed = [_brief(row) for row in found]
    names = [name for name in LISTED if any(row[name] is not None for row in listed)]
    output.table({"rewards": found}, listed, names, "there are no rewards")


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    most = row["max_redemptions"]
    is_code = row["reward_kind"] == "code"
    return {
        **row,
        "kind": row["reward_kind"],
        "referrer_credits": row["referrer_credits"] or None,
        "redeemed": f"{row['redeemed']}{f' of {most}' if most else ''}" if is_code else None,
        "expires_after": _days(row["expires_after"]),
        "account_age": _days(row["account_age"]),
        "active": row["is_active"],
    }


def _days(length: timedelta | None) -> str | None:
    return None if length is None else counted(length.days, "day")


@rewards.command()
@shared_options
@arguments.account
@click.argument("code")
@pass_output
def redeem(output: Output, account: str, code: str) -> int:
    """Grant ACCOUNT what the promotion CODE is worth; exit 1 with the reason if it may not."""
    with open_ledger(output) as conn:
        answer = call(conn, "redeem_code", account_id=find_account(conn, account), code=code)[0]
    return output.answer(answer, f"redeemed {plain(code)} (grant {answer['grant_id']})")


@rewards.command(name="referral-code")
@shared_options
@arguments.account
@pass_output
def referral_code(output: Output, account: str) -> None:
    """Print the code by which ACCOUNT refers others; the same each time."""
    with open_ledger(output) as conn:
        row = call(conn, "get_referral_code", account_id=find_account(conn, account))[0]
    code = row["get_referral_code"]
    output.data({"referral_code": code}, code)


@rewards.command()
@shared_options
@arguments.account
@click.argument("code")
@pass_output
def refer(output: Output, account: str, code: str) -> int:
    """Note that ACCOUNT came by the referral CODE of another.

    Both are rewarded when it first pays. Exit 1 if nothing was noted: the code is unknown or
    belongs to the same person, or the account has a referrer, has paid or was erased before.
    """
    with open_ledger(output) as conn:
        account_id = find_account(conn, account)
        row = call(conn, "set_referrer", account_id=account_id, referral_code=code)[0]
    if not row["set_referrer"]:
        output.data({"noted": False})
        output.talk(
            "pgsaas: nothing was noted: the code is unknown or the account's own, or the account "
            "has a referrer, has paid or was erased before",
            ERROR,
        )
        return 1
    output.data({"noted": True}, "noted; the referral is earned at the first payment")
    return 0
