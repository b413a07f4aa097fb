"""A client that charges as fast as it can and writes down what it was told.

usage: python -m tests.concurrency.charger DSN LOG NAME ACCOUNT…

A line `try KEY ACCOUNT` is written before a charge of one credit is sent, `ok KEY SEQ` after its
commit was acknowledged. It ends when the server does, or when it is killed.
"""

from __future__ import annotations

import os
import random
import sys
from itertools import count

import psycopg


def main(dsn: str, log: str, name: str, *accounts: str) -> None:
    dice = random.Random(name)  # noqa: S311
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    conn = psycopg.connect(dsn, autocommit=True)
    for number in count():
        key, account = f"{name}-{number}", dice.choice(accounts)
        os.write(out, f"try {key} {account}\n".encode())
        try:
            answer = conn.execute(
                "select success, seq from pgsaas.deduct_credits(%s, 1, p_idempotency_key => %s)",
                [account, key],
            ).fetchone()
        except psycopg.OperationalError:
            return
        assert answer
        assert answer[0], "there are enough credits"
        os.write(out, f"ok {key} {answer[1]}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
