from __future__ import annotations

import pytest

from tests.sql.ledger import Ledger
from tests.sql.scene import Scene, play

CHANGES = [
    "update pgsaas.credit_transactions set amount = 0",
    "update pgsaas.credit_transactions set description = 'other words'",
    "update pgsaas.credit_transactions set metadata = '{}'",
    "update pgsaas.credit_transactions set description = null, seq = seq + 10",
    "update pgsaas.credit_transactions set idempotency_key = null, description = null",
    "update pgsaas.credit_transactions set created_at = created_at - interval '1 day'",
    "delete from pgsaas.credit_transactions",
    "truncate pgsaas.credit_transactions",
    "truncate pgsaas.accounts cascade",
    "insert into pgsaas.credit_transactions select * from pgsaas.credit_transactions"
    " on conflict (account_id, seq) do update set amount = 0",
    "merge into pgsaas.credit_transactions t using pgsaas.accounts a"
    " on t.account_id = a.account_id when matched then delete",
]


@pytest.fixture
def scene(ledger: Ledger) -> Scene:
    scene = play(ledger)
    scene.call("deduct_credits", p_description="words", p_metadata={"a": 1},
               p_idempotency_key="k")  # fmt: skip
    return scene


@pytest.mark.parametrize("role", ["pgsaas_owner", "postgres"])
@pytest.mark.parametrize("change", CHANGES)
def test_the_ledger_is_append_only_even_for_its_owner(scene: Scene, change: str, role: str) -> None:
    if "accounts cascade" in change:
        scene.ledger.conn.execute("alter table pgsaas.credit_transactions add foreign key"
                                  " (account_id) references pgsaas.accounts")  # fmt: skip
    scene.ledger.become(role)
    with pytest.raises(Exception, match="append-only") as caught, scene.ledger.conn.transaction():
        scene.ledger.conn.execute(change.encode())
    assert getattr(caught.value, "sqlstate", None) == "PT403"


def test_erasing_free_text_passes_the_guard(scene: Scene) -> None:
    scene.ledger.become("pgsaas_owner")
    done = scene.ledger.conn.execute(
        "update pgsaas.credit_transactions set description = null, metadata = null"
    )
    assert done.rowcount == 3
    assert scene.ledger.conn.execute(
        "update pgsaas.credit_transactions set description = null"
    ).rowcount == 3  # fmt: skip


def test_rows_of_an_archived_prefix_may_go(scene: Scene) -> None:
    scene.ledger.conn.execute("update pgsaas.account_balances set archived_seq = 1")
    gone = scene.ledger.conn.execute("delete from pgsaas.credit_transactions where seq = 1")
    assert gone.rowcount == 1
    with scene.ledger.raises("PT403"):
        scene.ledger.conn.execute("delete from pgsaas.credit_transactions where seq = 2")


@pytest.mark.parametrize("role", ["pgsaas_app", "pgsaas_user", "pgsaas_admin"])
@pytest.mark.parametrize("change", [*CHANGES[:1], *CHANGES[6:8]])
def test_nobody_else_may_even_try(scene: Scene, change: str, role: str) -> None:
    scene.ledger.become(role)
    with pytest.raises(Exception, match="permission denied"), scene.ledger.conn.transaction():
        scene.ledger.conn.execute(change.encode())
