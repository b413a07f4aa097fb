"""A host application's users tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.sql.ledger import Ledger, Row

IDS = {
    "uuid": "md5(n::text)::uuid",
    "bigint": "n",
    "text": "'user_' || n",
}


@dataclass(frozen=True, slots=True)
class Host:
    """The owner of the database, who has users and attaches them."""

    ledger: Ledger

    def run(self, text: str, *parameters: Any) -> int:
        return self.ledger.conn.execute(text.encode(), parameters or None).rowcount

    def table(self, kind: str = "bigint", rows: int = 0, name: str = "public.users") -> None:
        """A table with an id, an address and as many rows."""
        self.run(f"create table {name} (id {kind} primary key, email text, plan text)")
        self.add(1, rows, kind, name)

    def add(self, first: int, last: int, kind: str = "bigint", name: str = "public.users") -> None:
        made = IDS.get(kind, "n")
        self.run(
            f"insert into {name} (id, email) select {made}, 'u' || n || '@example.com'"
            f" from generate_series({first}, {last}) n"
        )

    def attach(self, table: str = "public.users", **named: object) -> Row:
        """attach_users, which must come to an end."""
        self.run("set statement_timeout = '60s'")
        self.run("set client_min_messages = error")
        row = self.ledger.call("attach_users", table, **({"p_email": "email"} | named))
        self.run("reset statement_timeout")
        self.run("reset client_min_messages")
        return row

    def accounts(self, realm: str = "public.users") -> dict[str, str | None]:
        """The address by external id of every account of a realm."""
        found = self.ledger.query(
            "select x.external_id, a.email from pgsaas.account_external_ids x"
            " join pgsaas.accounts a using (account_id)"
            " join pgsaas.account_balances using (account_id) where x.realm = %s",
            realm,
        )
        return {row["external_id"]: row["email"] for row in found}

    def missing(self, table: str = "public.users", column: str = "id") -> int:
        """How many rows have no account."""
        found: int = self.ledger.scalar(
            f"select count(*) from {table} t where not exists (select"
            " from pgsaas.account_external_ids x"
            f" where x.realm = 'public.users' and x.external_id = t.{column}::text)"
        )
        return found
