from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Conn
from tests.schema.contract import Function, error_codes, functions, readable, settings, words

SQL = Path(__file__).parents[2] / "sql"

SIGNATURE = """
    select p.oid, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid)
      from pg_proc p where p.pronamespace = 'pgsaas'::regnamespace and p.proname = %s
"""


def catalogue_arguments(text: str) -> tuple[tuple[str, str, str | None], ...]:
    """pg_get_function_arguments as the contract writes it: no casts, `=` for DEFAULT."""
    arguments = []
    for part in re.split(r", (?=p_)", text):
        if not part:
            continue
        declared, _, default = part.partition(" DEFAULT ")
        name, kind = declared.split(" ", 1)
        default = re.sub(r"::[a-z ]+(\[\])?", "", default).replace("'00:15:00'", "'15 minutes'")
        default = "null" if default == "NULL" else default
        arguments.append((name, kind.replace("timestamp with time zone", "timestamptz"), default))
    return tuple((name, kind, default or None) for name, kind, default in arguments)


@pytest.mark.parametrize("function", functions(), ids=lambda function: function.name)
def test_a_function_is_what_the_contract_says(tx: Conn, function: Function) -> None:
    found = tx.execute(SIGNATURE, (function.name,)).fetchall()
    assert len(found) == 1, "one name, one signature"
    _, arguments, result = found[0]
    assert catalogue_arguments(arguments) == function.arguments
    result = result.replace("timestamp with time zone", "timestamptz")
    if function.scalar is not None:
        assert result.removeprefix("SETOF ") == function.scalar
    else:
        columns = re.fullmatch(r"TABLE\((.*)\)", result)
        assert columns is not None
        assert tuple(tuple(c.split(" ", 1)) for c in columns[1].split(", ")) == function.columns


def test_every_function_that_somebody_may_call_is_in_the_contract_or_serves_readers(
    tx: Conn,
) -> None:
    written = {function.name for function in functions()}
    granted = {
        row[0]
        for row in tx.execute(
            "select distinct p.proname from pg_proc p, aclexplode(p.proacl) a"
            " where p.pronamespace = 'pgsaas'::regnamespace and a.grantee <> p.proowner"
        )
    }
    serving = {
        "acts_as_admin acts_as_system read_claims transaction_stamp identity_realm raise_not_found"
        " months_since gives_access project_subscription subscription_period default_subscription"
        " due_at ends_at grace_ends_at ended_in default_plan run_all_due"
        " project_account plan_settlement grants_to_settle new_row new_grant expired_grant hand_on"
        " admitted_grant due_events end_period return_part return_parts cancel_debt"
        " pay debts_to_settle query_cost length_text price_terms limit_terms"
        " source_rank period_end exact_interval free_by_source row_allocations"
    }
    assert granted - written == set(" ".join(serving).split())
    without_caller = {function.name for function in functions() if not function.callers}
    assert written - granted == without_caller


def test_readable_relations_exist_as_written(tx: Conn) -> None:
    for relation, readers in readable().items():
        for role in ("app", "user", "admin", "webhook", "runner"):
            may = tx.execute(
                "select has_any_column_privilege(%s, %s, 'select')",
                (f"pgsaas_{role}", f"pgsaas.{relation}"),
            ).fetchone()
            assert may == (role in readers,), (relation, role)


def test_error_codes_in_sql_are_those_of_the_contract() -> None:
    text = "\n".join(path.read_text() for path in sorted(SQL.glob("*.sql")))
    used = set(re.findall(r"error_code := '([A-Z_]+)'", text))
    assert used == set(error_codes())


#: Codes of functions that are called only where they cannot answer so.
NEVER = {
    "start_job": {"ACCOUNT_FROZEN"},  # asked before, under the same lock
    "complete_job": {"HOLD_NOT_FOUND", "HOLD_CLOSED"},  # a running job's hold is open
    # its row is a charge, and one that was given back before has failed all the same
    "fail_job": {"HOLD_NOT_FOUND", "HOLD_CLOSED", "NOT_REFUNDABLE", "REFUND_EXCEEDS"},
}


@pytest.mark.parametrize("code", error_codes())
def test_a_code_is_answered_by_the_functions_that_the_contract_names(tx: Conn, code: str) -> None:
    bodies: dict[str, str] = dict(
        tx.execute(
            "select proname, prosrc from pg_proc where pronamespace = 'pgsaas'::regnamespace"
        ).fetchall()
    )

    def answers(name: str, seen: frozenset[str] = frozenset()) -> bool:
        """Whether the function, or one that it calls, answers with the code."""
        called = set(re.findall(r"pgsaas\.(\w+)\(", bodies[name])) & set(bodies) - seen - {name}
        return f"'{code}'" in bodies[name] or any(answers(n, seen | {name}) for n in called)

    standard = {f.name for f in functions() if ("new_balance", "numeric") in f.columns}
    named = error_codes()[code]
    if "all" in named:
        named = frozenset(standard | (named & {f.name for f in functions()}))
    answering = {f for f in functions() if ("error_code", "text") in f.columns}
    if code in ("INVALID_ARGUMENT", "KEY_CONFLICT"):  # deduct_slow answers so for the batch only
        answering = {f for f in answering if ("item", "integer") in f.columns}
    found = {f.name for f in answering if answers(f.name)}
    assert {name for name in found if code not in NEVER.get(name, set())} == named


def test_columns_hold_the_words_of_the_contract(tx: Conn) -> None:
    checks = tx.execute(
        "select a.attname, pg_get_constraintdef(c.oid) from pg_constraint c"
        " join pg_attribute a on a.attrelid = c.conrelid and a.attnum = any (c.conkey)"
        " where c.connamespace = 'pgsaas'::regnamespace and c.contype = 'c'"
    ).fetchall()
    listed = [
        (column.removeprefix("default_"), re.findall(r"'(\w+)'::text", definition))
        for column, definition in checks
        if "= ANY" in definition
    ]
    found: dict[str, set[str]] = {}
    for column, values in listed:
        found.setdefault(column, set()).update(values)
    types = tx.execute(
        "select prosrc from pg_proc where proname = 'list_transactions'"
        " and pronamespace = 'pgsaas'::regnamespace"
    ).fetchone()
    assert types is not None
    asked = re.search(r"p_type not in \((.*?)\)", types[0], re.DOTALL)
    assert asked is not None
    found["transaction_type"] = set(re.findall(r"'(\w+)'", asked[1]))
    assert {column: set(values) for column, values in words().items()} == {
        column: values for column, values in found.items() if column in words()
    }


def test_every_writer_charges_once_when_its_columns_are_spelled_out(conn: Conn) -> None:
    """`select (f()).*` on an OUT record would call the function once per column."""
    standard = [
        function
        for function in functions()
        if ("new_balance", "numeric") in function.columns
        and ("item", "integer") not in function.columns
    ]
    assert len(standard) >= 13
    account = conn.execute("select account_id from pgsaas.create_account()").fetchone()
    assert account is not None
    (a,) = account
    conn.execute("select pgsaas.add_credits(%s, 1000, p_source => 'purchase')", (a,))
    before = conn.execute("select seq from pgsaas.get_balance(%s)", (a,)).fetchone()
    conn.execute("select (pgsaas.deduct_credits(%s, 1)).*", (a,))
    conn.execute("select (pgsaas.add_credits(%s, 1)).*", (a,))
    conn.execute("select (pgsaas.refund_credits(%s, 2)).*", (a,))
    conn.execute("select (pgsaas.adjust_credits(%s, 1, 'why')).*", (a,))
    conn.execute("select (pgsaas.revoke_grant(%s, 1, 1)).*", (a,))
    conn.execute("select (pgsaas.hold_credits(%s, 1)).*", (a,))
    conn.execute("select (pgsaas.extend_hold(%s, 1)).*", (a,))
    conn.execute("select (pgsaas.capture_hold(%s, 1)).*", (a,))
    conn.execute("select (pgsaas.hold_credits(%s, 1)).*", (a,))
    conn.execute("select (pgsaas.release_hold(%s, 2)).*", (a,))
    conn.execute("select (pgsaas.set_overdraft_limit(%s, 1, 'why')).*", (a,))
    after = conn.execute("select seq from pgsaas.get_balance(%s)", (a,)).fetchone()
    assert before is not None
    assert after is not None
    assert after[0] == before[0] + 6
    assert conn.execute("select count(*) from pgsaas.credit_holds").fetchone() == (2,)


def test_the_settings_are_those_of_the_contract(tx: Conn) -> None:
    columns = tx.execute(
        "select attname from pg_attribute where attrelid = 'pgsaas.settings'::regclass"
        " and attnum > 1 and not attisdropped"
    )
    assert {name for (name,) in columns} == set(settings())


@pytest.mark.parametrize("name", settings())
def test_a_setting_takes_the_values_of_the_contract(tx: Conn, name: str) -> None:
    examples = {"amount": "12.5", "interval": "3 days", "a realm": "public.people", "null": None}
    for value in settings()[name]:
        meant = examples.get(value, value)
        stored = tx.execute("select pgsaas.set_setting(%s, %s)", [name, meant]).fetchone()
        assert stored == (meant,)
    wrong = "x" if "a realm" not in settings()[name] else "x" * 256
    for refused in [wrong] + ([] if "null" in settings()[name] else [None]):
        with pytest.raises(psycopg.Error) as error, tx.transaction():
            tx.execute("select pgsaas.set_setting(%s, %s)", [name, refused])
        assert error.value.sqlstate == "22023"
