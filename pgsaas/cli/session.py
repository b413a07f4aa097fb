"""A session of a command with the ledger, and how a command names an account."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from functools import partial
from uuid import UUID

import psycopg
from psycopg import errors as pg
from psycopg.abc import Buffer
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.json import set_json_loads

from pgsaas import install
from pgsaas.call import call, read
from pgsaas.cli.output import Output
from pgsaas.errors import (
    AccountNotFound,
    InvalidValue,
    NotFound,
    NotInstalled,
    PgsaasError,
    one_line,
)
from pgsaas.install.session import Session

#: Who may run most commands, some, and the rest.
CALLERS = "pgsaas_app, of pgsaas_admin for acts of staff, or of pgsaas_owner for both"
ADMIN = "pgsaas_admin or pgsaas_owner"
OWNER = "pgsaas_owner"

_UUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}\Z", re.IGNORECASE)


class Moments(TimestamptzLoader):
    """Times of the ledger: infinity, which Python has no time for, is None (never)."""

    def load(self, data: Buffer) -> datetime:
        """The time, None for never."""
        return None if bytes(data).endswith(b"infinity") else super().load(data)  # type: ignore[return-value]


@contextmanager
def open_ledger(output: Output, needs: str = CALLERS) -> Iterator[Session]:
    """A session in autocommit mode with an installed database, acting as the login's own role.

    Raises NotInstalled and what install.open_session() raises; where the role may not do what the
    command does, the message names the role it `needs`.
    """
    try:
        with install.open_session(output.settings().database_url, needs=needs) as conn:
            if not install.is_bootstrapped(conn):
                raise NotInstalled
            prepare(conn)
            conn.add_notice_handler(lambda said: _warn(output, said))
            yield conn
    except (pg.UndefinedFunction, pg.UndefinedTable) as error:
        if "pgsaas." not in (error.diag.message_primary or ""):
            raise
        raise NotInstalled(
            "this database has no, or an older, pgsaas: run `pgsaas migrate`"
        ) from error
    except UnicodeEncodeError as error:
        raise InvalidValue(f"an argument is no valid text: {error.object!a}") from error


def _warn(output: Output, said: pg.Diagnostic) -> None:
    if said.severity_nonlocalized == "WARNING":
        output.talk(f"warning: {said.message_primary}", "yellow")


@contextmanager
def known_table() -> Iterator[None]:
    """Inside, a table that is not there becomes NotFound with the way to name it."""
    try:
        yield
    except (pg.UndefinedTable, pg.InvalidSchemaName, pg.InvalidName) as error:
        raise NotFound(
            f"{one_line(error)}: a table is named with its schema, such as public.users"
        ) from error


def prepare(conn: psycopg.Connection[tuple[object, ...]]) -> None:
    """Read amounts inside JSON exactly, and times that never come as None."""
    conn.adapters.register_loader("timestamptz", Moments)
    set_json_loads(partial(json.loads, parse_float=Decimal), conn)


def find_accounts(conn: Session, texts: Collection[str]) -> dict[str, UUID | PgsaasError]:
    """What find_account() says of each text, its error included, in few questions."""
    ids = [UUID(text) for text in texts if _UUID.match(text)]
    known = read(conn, "accounts", {"account_id": ids}, columns=["account_id"]) if ids else []
    accounts = {each["account_id"] for each in known}
    found: dict[str, UUID | PgsaasError] = {
        text: UUID(text) for text in texts if _UUID.match(text) and UUID(text) in accounts
    }
    names = [text for text in texts if text not in found and ":" not in text]
    if names:
        realm = call(conn, "identity_realm")[0]["identity_realm"]
        mine = {"realm": realm, "external_id": names}
        for row in read(conn, "account_external_ids", mine):
            found[row["external_id"]] = row["account_id"]
    for text in texts:
        if text not in found:
            try:
                found[text] = find_account(conn, text)
            except (AccountNotFound, InvalidValue) as error:
                found[text] = error
    return found


def find_account(conn: Session, text: str) -> UUID:
    """The account somebody means: its id, an external id, `realm:external-id` or an address.

    An account id goes first, an address last. Raises AccountNotFound when nothing is meant,
    InvalidValue when more than one account is.
    """
    if _UUID.match(text) and read(conn, "accounts", {"account_id": UUID(text)}):
        return UUID(text)
    if len(text.encode()) > 511:
        raise AccountNotFound("no account has a name of more than 511 bytes")
    cuts = [index for index, sign in enumerate(text) if sign == ":"]
    meant = [{"external_id": text}]
    meant += [{"realm": text[:cut], "external_id": text[cut + 1 :]} for cut in cuts]
    found = {call(conn, "account_id_for", **each)[0]["account_id_for"] for each in meant} - {None}
    if not found and "@" in text:
        found = {each["account_id"] for each in read(conn, "accounts", {"email": text}, limit=100)}
    if len(found) > 1:
        raise InvalidValue(f'"{text}" names {len(found)} accounts: give the account id')
    if not found:
        raise AccountNotFound(
            f'no account "{text}": give an account id, an external id, realm:external-id or '
            "an address"
        )
    account_id = found.pop()
    assert isinstance(account_id, UUID)  # noqa: S101
    return account_id
