"""pgsaas attach, detach and expose: how an application's own tables and calls meet pgsaas."""

from __future__ import annotations

from typing import Any

import click

from pgsaas.call import call, read
from pgsaas.cli.arguments import given
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.cli.progress import progress
from pgsaas.cli.session import OWNER, known_table, open_ledger
from pgsaas.errors import RuleViolated
from pgsaas.install.session import Session

STEP = 10_000
#: What a person may want to know of an attachment.
LISTED = ("realm", "relation", "id_column", "email_column", "attached_at")


def _identity_realm(conn: Session) -> str:
    """The realm whose ids are those of the users."""
    return str(read(conn, "settings")[0]["identity_realm"])


@click.command()
@shared_options
@click.argument("table", required=False)
@click.option("--id", metavar="COLUMN", help="Its unique id: uuid, bigint or text (default: id).")
@click.option("--email", metavar="COLUMN", help="A column to keep as the address.")
@pass_output
def attach(output: Output, /, table: str | None, **options: Any) -> None:
    """Give every row of a users TABLE an account.

    Now, and from now on at each sign-up. TABLE is named with its schema, such as public.users;
    without one, the attached tables are listed. Rows that are there get their account in steps
    of 10,000, each a transaction of its own: interrupted, it goes on where it was. The ids of
    the first table that is attached become the user ids.
    """
    if table is None:
        if given(**options):
            raise click.UsageError("--id and --email are columns of a TABLE: name it")
        _list(output)
        return
    attached = 0
    with open_ledger(output, OWNER) as conn, known_table(), progress("attaching") as advance:
        while True:
            done = call(conn, "attach_users", table=table, **given(**options), limit=STEP)[0]
            attached += done["attached"]
            advance(attached, attached + done["remaining"])
            if not done["remaining"]:
                break
            if not done["attached"]:
                raise RuleViolated(
                    f"{done['remaining']:,} rows of {done['realm']} cannot have an account"
                )
        users = _identity_realm(conn)
    output.data(
        {"realm": done["realm"], "attached": attached, "identity_realm": users},
        f"{done['realm']} is attached: {attached:,} new account{'' if attached == 1 else 's'}",
    )
    if users == done["realm"]:
        output.talk("its ids are the user ids: account_id_for() and claims mean them")
    else:
        output.talk(
            f"the user ids are still those of {users or 'no table'}: name an account of this one "
            f"{done['realm']}:ID, or run `pgsaas settings set identity_realm {done['realm']}`"
        )


def _list(output: Output) -> None:
    with open_ledger(output, OWNER) as conn:
        found = read(conn, "attachments", order_by="realm")
        users = _identity_realm(conn)
    shown = [{name: each[name] for name in LISTED} for each in found]
    value = {"attachments": shown, "identity_realm": users}
    output.table(value, shown, LISTED, "no table is attached")


@click.command()
@shared_options
@click.argument("table")
@pass_output
def detach(output: Output, table: str) -> None:
    """Stop giving new rows of a TABLE an account.

    The accounts that are there stay, and so do their ids.
    """
    with open_ledger(output, OWNER) as conn, known_table():
        detached = call(conn, "detach_users", table=table)[0]["detach_users"]
        users = _identity_realm(conn)
        realms = {each["realm"] for each in read(conn, "attachments")}
    output.data({"detached": detached}, "detached" if detached else "it was not attached")
    if detached and users and users not in realms:
        output.talk(f"the user ids are still those of {users} (setting identity_realm)")


@click.command()
@shared_options
@click.option("--schema", metavar="NAME", help="Where to write them (default: public).")
@pass_output
def expose(output: Output, /, **options: Any) -> None:
    """Write wrappers with older names into a schema.

    For applications that call deduct_credits(p_user_id, …) and add_credits(p_user_id, …)
    unqualified. The backend's role may execute them, nobody else.
    """
    with open_ledger(output, OWNER) as conn:
        written = [row["expose"] for row in call(conn, "expose", **given(**options))]
    output.data({"functions": written}, *written)
