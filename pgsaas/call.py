"""The only door to the schema: its functions, `select * from pgsaas.f(p_x => …)`, and its read API.

The caller owns the transaction: nothing here commits or rolls back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg import rows
from psycopg.types.json import Jsonb

from pgsaas import errors

Row = TypeVar("Row")
Conditions: TypeAlias = Mapping[str, Any]
_NAME = re.compile(r"[a-z_]+\Z")


def _check_names(*names: str) -> None:
    for name in names:
        if not _NAME.match(name):
            raise ValueError(f"{name!r} is no name of the pgsaas schema")


def _statement(function: str, arguments: Mapping[str, Any]) -> tuple[bytes, list[Any]]:
    _check_names(function, *arguments)
    named = ", ".join(f"p_{name} => %s" for name in arguments)
    values = [Jsonb(value) if isinstance(value, dict) else value for value in arguments.values()]
    # every part of the text was checked against [a-z_]+ above
    return f"select * from pgsaas.{function}({named})".encode(), values  # noqa: S608


def call(conn: psycopg.Connection[Any], function: str, /, **arguments: Any) -> list[dict[str, Any]]:
    """Call a function and return its rows as dictionaries.

    Arguments are given without `p_`; those left out take their default. Raises the class of
    pgsaas.errors that stands for the SQLSTATE, else the psycopg error itself.
    """
    return call_as(conn, rows.dict_row, function, **arguments)


def call_as(
    conn: psycopg.Connection[Any],
    row_factory: rows.RowFactory[Row],
    function: str,
    /,
    **arguments: Any,
) -> list[Row]:
    """Like call(), with rows made by a psycopg row factory such as class_row(Balance)."""
    statement, values = _statement(function, arguments)
    try:
        with conn.cursor(row_factory=row_factory) as cursor:
            return cursor.execute(statement, values).fetchall()
    except psycopg.Error as error:
        raise errors.from_database(error) or error from error


def stream(
    conn: psycopg.Connection[Any], function: str, /, **arguments: Any
) -> Iterator[dict[str, Any]]:
    """Like call(), but the rows come one by one and are never all in memory."""
    statement, values = _statement(function, arguments)
    try:
        with conn.cursor(row_factory=rows.dict_row) as cursor:
            yield from cursor.stream(statement, values)
    except psycopg.Error as error:
        raise errors.from_database(error) or error from error


def read(
    conn: psycopg.Connection[Any],
    relation: str,
    /,
    where: Conditions | None = None,
    *,
    columns: Sequence[str] = (),
    after: Conditions | None = None,
    before: Conditions | None = None,
    order_by: str | None = None,
    newest_first: bool = False,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Rows of a table or view of the read API, as far as this session may see them.

    `where` holds columns and the value each must have; a list stands for any of its values, None
    for no value.
    `columns` are read (default: all). `after` holds columns that must be greater, `before` less.
    Errors as in call().
    """
    condition, values = _condition(where, after, before)
    _check_names(*columns)
    statement = f"select {', '.join(columns) or '*'} from pgsaas.{relation}{condition}"  # noqa: S608
    if order_by is not None:
        _check_names(order_by)
        statement += f" order by {order_by}{' desc' if newest_first else ''}"
    if limit is not None:
        statement += " limit %s"
        values.append(limit)
    return _fetch(conn, relation, statement, values)


def count(conn: psycopg.Connection[Any], relation: str, /, where: Conditions | None = None) -> int:
    """How many rows read() would find."""
    condition, values = _condition(where)
    statement = f"select count(*) as found from pgsaas.{relation}{condition}"  # noqa: S608
    return int(_fetch(conn, relation, statement, values)[0]["found"])


def counts(
    conn: psycopg.Connection[Any],
    relation: str,
    /,
    columns: Sequence[str],
    where: Conditions | None = None,
) -> list[dict[str, Any]]:
    """How many rows there are (`found`) for each set of values of these columns, in their order."""
    condition, values = _condition(where)
    _check_names(*columns)
    named = ", ".join(columns)
    statement = (
        f"select {named}, count(*) as found from pgsaas.{relation}{condition}"  # noqa: S608
        f" group by {named} order by {named}"
    )
    return _fetch(conn, relation, statement, values)


def _condition(
    where: Conditions | None,
    after: Conditions | None = None,
    before: Conditions | None = None,
) -> tuple[str, list[Any]]:
    terms, values = [], []
    for column, value in (where or {}).items():
        _check_names(column)
        if value is None:
            terms.append(f"{column} is null")
            continue
        terms.append(f"{column} = any(%s)" if isinstance(value, list) else f"{column} = %s")
        values.append(value)
    for sign, bounds in ((">", after), ("<", before)):
        for column, value in (bounds or {}).items():
            _check_names(column)
            terms.append(f"{column} {sign} %s")
            values.append(value)
    return (f" where {' and '.join(terms)}" if terms else ""), values


def _fetch(
    conn: psycopg.Connection[Any], relation: str, statement: str, values: list[Any]
) -> list[dict[str, Any]]:
    _check_names(relation)
    try:
        with conn.cursor(row_factory=rows.dict_row) as cursor:
            return cursor.execute(statement.encode(), values).fetchall()
    except psycopg.Error as error:
        raise errors.from_database(error) or error from error


async def call_async(
    conn: psycopg.AsyncConnection[Any],
    row_factory: rows.AsyncRowFactory[Row],
    function: str,
    /,
    **arguments: Any,
) -> list[Row]:
    """call_as() on an asynchronous connection."""
    statement, values = _statement(function, arguments)
    try:
        async with conn.cursor(row_factory=row_factory) as cursor:
            return await (await cursor.execute(statement, values)).fetchall()
    except psycopg.Error as error:
        raise errors.from_database(error) or error from error
