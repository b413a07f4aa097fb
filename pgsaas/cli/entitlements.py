"""pgsaas entitlements: what accounts may do, how much of it they did, and what jobs may spend."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import click

from pgsaas.call import call, read
from pgsaas.cli import arguments
from pgsaas.cli.arguments import NUMBERS, given
from pgsaas.cli.output import ERROR, Output, pass_output, shared_options
from pgsaas.cli.session import find_account, open_ledger
from pgsaas.cli.table import plain
from pgsaas.install.session import Session

UNLIMITED = "unlimited"
RATE = "rate:"
RATES = ("second", "minute", "hour", "day")
KINDS = ("account", "member", "agent", "key")
SHOWN = ("feature", "allowed", "value", "limit", "used", "remaining", "resets_at", "source")
CAPS = ("subject_kind", "subject", "cap", "per", "spent", "remaining", "resets_at")


@click.group()
@shared_options
def entitlements() -> None:
    """Show, use and change what accounts may do, and cap what their jobs spend.

    ACCOUNT is an account id, the external id of a user, realm:external-id or an address. FEATURE
    is the name of a feature or limit, or rate:BUCKET.
    """


@entitlements.command()
@shared_options
@arguments.account
@pass_output
def show(output: Output, account: str) -> None:
    """Show every feature and limit of ACCOUNT, by its plan or an exception, and what is used."""
    with open_ledger(output) as conn, conn.transaction():
        account_id = find_account(conn, account)
        found = []
        for feature in _names(conn, account_id):
            row = call(conn, "check_entitlement", account_id=account_id, feature=feature)[0]
            found.append({"feature": feature, **row})
    listed = [_brief(row) for row in found]
    names = [name for name in SHOWN if any(row[name] not in (None, "") for row in listed)]
    output.table({"entitlements": found}, listed, names, "the account has no features or limits")


def _names(conn: Session, account_id: UUID) -> list[str]:
    """What an account's plan has, and what the account has exceptions for."""
    overrides = read(conn, "entitlement_overrides", {"account_id": account_id})
    names = {row["feature"] for row in overrides}
    for held in read(conn, "current_subscriptions", {"account_id": account_id}):
        version = {"plan_id": held["plan_id"], "version": held["plan_version"]}
        kinds = ["features", "limits", "rate_limits"]
        for terms in read(conn, "plan_versions", version, columns=kinds):
            names |= {*terms["features"], *terms["limits"]}
            names |= {f"{RATE}{bucket}" for bucket in terms["rate_limits"]}
    return sorted(names)


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    if row["feature"].startswith(RATE):
        limit = f"{plain(row['limit_value'])} a {row['value']}" if row["limit_value"] else UNLIMITED
        return {**row, "limit": limit, "value": None}
    is_limit = row["used"] is not None
    return {
        **row,
        "limit": UNLIMITED if is_limit and row["limit_value"] is None else row["limit_value"],
    }


@entitlements.command()
@shared_options
@arguments.account
@click.argument("feature")
@pass_output
def check(output: Output, account: str, feature: str) -> int:
    """Say whether ACCOUNT may use FEATURE, or one more of a limit; exit 1 if not."""
    with open_ledger(output) as conn:
        account_id = find_account(conn, account)
        row = call(conn, "check_entitlement", account_id=account_id, feature=feature)[0]
    output.data(row, _rate(row) if feature.startswith(RATE) else _said(row))
    return 0 if row["allowed"] else 1


def _rate(row: dict[str, Any]) -> str:
    said = "allowed" if row["allowed"] else "not allowed"
    if row["limit_value"] is None:
        return f"{said}, no limit"
    left, limit = plain(row["remaining"]), plain(row["limit_value"])
    return f"{said}: {left} left of {limit} a {row['value']}, full at {plain(row['resets_at'])}"


def _said(row: dict[str, Any]) -> str:
    why = {
        "plan": "by the plan",
        "override": "by an exception",
        "inactive": "the subscription gives no access",
        "none": "not part of the plan",
    }[row["source"]]
    said = f"{'allowed' if row['allowed'] else 'not allowed'}, {why}"
    if row["used"] is not None:
        said += f": {_used(row)}"
    elif row["value"] not in (None, True, False):
        said += f": {plain(row['value'])}"
    return said


def _used(row: dict[str, Any]) -> str:
    """How much of a limit is used, such as 3 of 5 are used."""
    limit = "" if row["limit_value"] is None else f" of {plain(row['limit_value'])}"
    until = f", counted anew from {plain(row['resets_at'])} on" if row["resets_at"] else ""
    return f"{plain(row['used'])}{limit} used{'' if limit else ', no limit'}{until}"


@entitlements.command(context_settings=NUMBERS)
@shared_options
@arguments.account
@click.argument("feature")
@click.option(
    "--delta",
    callback=arguments.to_amount,
    metavar="N",
    help="How much (default: 1); below 0 gives it back.",
)
@pass_output
def use(output: Output, /, account: str, **options: Any) -> int:
    """Use up one of the limit FEATURE; exit 1 with the code if it does not fit."""
    with open_ledger(output) as conn:
        account_id = find_account(conn, account)
        answer = call(conn, "use_entitlement", account_id=account_id, **given(**options))[0]
    if not answer["success"]:
        output.data(answer)
        output.talk(f"pgsaas: {answer['error_message']} ({answer['error_code']})", ERROR)
        return 1
    output.data(answer, _used(answer))
    return 0


def to_limit(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> Decimal | str | None:
    """A number, which JSON can say, or the word unlimited."""
    if text == UNLIMITED:
        return text
    found = arguments.to_amount(context, parameter, text)
    if found is not None and not found.is_finite():
        raise click.BadParameter(f"{text!r} is no amount, such as 12.5")
    return found


@entitlements.command(name="set", context_settings=NUMBERS)
@shared_options
@arguments.account
@click.argument("feature")
@click.argument("value", required=False)
@click.option(
    "--limit", callback=to_limit, metavar="N|unlimited", help="A limit, in place of VALUE."
)
@click.option("--rate", callback=to_limit, metavar="N|unlimited", help="A rate, for rate:BUCKET.")
@click.option(
    "--per",
    type=click.Choice(["period", *RATES]),
    help="A limit counts anew each period of the account; a rate is per second, minute, hour, day.",
)
@click.option("--remove", "is_removed", is_flag=True, help="Take the exception back.")
@click.option("--until", callback=arguments.to_moment, metavar="TIME", help="Default: for good.")
@arguments.reason
@pass_output
def set_(
    output: Output,
    /,
    account: str,
    feature: str,
    reason: str,
    until: datetime | None,
    **options: Any,
) -> None:
    """Make an exception for ACCOUNT, whatever its plan says.

    VALUE is true, false, a number or a text, in double quotes where it looks like one of those.
    """
    value = _wanted(feature, **options)
    with open_ledger(output) as conn:
        asked = {"account_id": find_account(conn, account), "feature": feature, "value": value}
        ends = given(ends_at=until)
        row = call(conn, "set_entitlement", **asked, reason=reason, **ends)[0]
    changed = row["set_entitlement"]
    said = f"{plain(feature)} is as the plan says" if value is None else f"{plain(feature)} is set"
    said += f" until {plain(until)}" if until else ""
    output.data({"changed": changed}, said if changed else "nothing changed")


def _wanted(
    feature: str,
    value: str | None,
    limit: Decimal | str | None,
    rate: Decimal | str | None,
    per: str | None,
    is_removed: bool,
) -> str | None:
    """The exception that is asked for, as JSON; None takes it back."""
    if [value is not None, limit is not None, rate is not None, is_removed].count(True) != 1:
        raise click.UsageError("give one of VALUE, --limit, --rate and --remove")
    if (rate is not None) != (feature.startswith(RATE) and not is_removed):
        raise click.UsageError("--rate is for rate:BUCKET, and rate:BUCKET takes nothing else")
    if per and (limit is None or per != "period") and (rate is None or per not in RATES):
        raise click.UsageError("--per is period for --limit, and a time for --rate")
    if rate is not None and per is None:
        raise click.UsageError("a rate is --per second, minute, hour or day")
    if is_removed:
        return None
    if value is not None and value.startswith("-") and not _is_number(value):
        raise click.UsageError(f"there is no option {value}; a text that begins so is quoted twice")
    if value is None:
        most = limit if rate is None else rate
        text = json.dumps(most) if isinstance(most, str) else str(most)
        return f'{{"limit": {text}, "per": "{per}"}}' if per else f'{{"limit": {text}}}'
    return _feature_value(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _feature_value(text: str) -> str:
    """true, false or a number as it was written, anything else as a text, in JSON."""
    try:
        found = json.loads(text, parse_constant=str)
    except ValueError:
        found = text
    if isinstance(found, bool | int | float):
        return text
    return json.dumps(found if text.startswith('"') else text)


@entitlements.command(context_settings=NUMBERS)
@shared_options
@arguments.account
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("subject_and_amount", nargs=-1, required=True, metavar="[SUBJECT] AMOUNT|none")
@click.option("--per", "interval", type=click.Choice(["day", "month"]), help="Default: month.")
@click.option("--reason", metavar="TEXT", help="Why; kept for ever.")
@pass_output
def cap(
    output: Output, /, account: str, kind: str, subject_and_amount: tuple[str, ...], **options: Any
) -> None:
    """Cap what jobs of ACCOUNT spend in a day or month of UTC.

    All of them (account), or those of the member, on the agent or by the key called SUBJECT.
    none takes the cap back.
    """
    *subjects, text = subject_and_amount
    if len(subjects) != (kind != "account"):
        wanted = "no SUBJECT" if kind == "account" else f"the {kind} and then the amount"
        raise click.UsageError(f"a cap of {kind} takes {wanted}")
    context = click.get_current_context()
    amount = arguments.to_amount_or_none(context, context.command.params[0], text)
    is_none = amount == arguments.NONE
    subject = subjects[0] if subjects else ""
    asked = {"subject_kind": kind, "subject": subject, "cap": None if is_none else amount}
    with open_ledger(output) as conn:
        account_id = find_account(conn, account)
        row = call(conn, "set_spend_cap", account_id=account_id, **asked, **given(**options))[0]
    changed = row["set_spend_cap"]
    of = f"{kind} {plain(subject)}".rstrip()
    said = f"{of} spends at most {plain(amount)} a {options['interval'] or 'month'}"
    said = f"the cap of {of} is taken back" if is_none else said
    output.data({"changed": changed}, said if changed else "nothing changed")


@entitlements.command()
@shared_options
@arguments.account
@pass_output
def caps(output: Output, account: str) -> None:
    """List the spend caps of ACCOUNT, and what its jobs spent of them in this day or month."""
    with open_ledger(output) as conn:
        found = call(conn, "list_spend_caps", account_id=find_account(conn, account))
    listed = [{**row, "per": row["cap_interval"]} for row in found]
    output.table({"caps": found}, listed, CAPS, "there are no spend caps")
