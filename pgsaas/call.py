"""The only door to the functions of the schema: `select * from pgsaas.f(p_x => …)`.

The caller owns the transaction: nothing here commits or rolls back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import psycopg
from psycopg import rows
from psycopg.types.json import Jsonb

from pgsaas import errors

Row = TypeVar("Row")
_NAME = re.compile(r"[a-z_]+\Z")


def _statement(function: str, arguments: Mapping[str, Any]) -> tuple[bytes, list[Any]]:
    for name in (function, *arguments):
        if not _NAME.match(name):
            raise ValueError(f"{name!r} is no name of the pgsaas schema")
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
