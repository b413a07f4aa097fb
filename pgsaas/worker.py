"""The worker: does what is due, one small step after the other, until it is told to stop.

It does what pg_cron does where there is pg_cron, with nothing but a connection. Any number may run
at once; one that is killed leaves an undone step to the others.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from pgsaas.call import call

Connect = Callable[[], AbstractContextManager[psycopg.Connection[Any]]]
Report = Callable[[dict[str, Any]], None]


def own_name() -> str:
    """A name by which this process is known: the machine and the process id."""
    return f"worker {socket.gethostname()}:{os.getpid()}"[:255]


@dataclass(slots=True)
class Worker:
    """Takes steps over connections in autocommit mode, which act as the system.

    `connect` opens a connection, `report` hears of each task that did something or failed, as
    {task, done, remaining, error}, and of a connection that was lost, as {error}.
    """

    connect: Connect
    report: Report
    name: str = field(default_factory=own_name)
    #: Seconds between two passes that find nothing more to do.
    pause: float = 10
    #: Accounts per step and task: as long as a step takes, a stop has to wait.
    limit: int = 1000
    stopping: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Finish the step that runs, and no more. Safe in a signal handler."""
        self.stopping.set()

    def run(self) -> None:
        """Work until stop(); a connection that is lost is opened again, ever more slowly.

        The first connection must be there: what it raises, this raises.
        """
        wait, was_there = 1.0, False
        while not self.stopping.is_set():
            try:
                with self.connect() as conn:
                    was_there = True
                    while not self.stopping.is_set():
                        self.work_off(conn)
                        wait = 1.0
                        self.stopping.wait(self.pause)
            except psycopg.OperationalError as error:
                if not was_there:
                    raise
                self.report({"error": str(error).strip().splitlines()[0]})
                self.stopping.wait(wait)
                wait = min(wait * 2, 60)

    def work_off(self, conn: psycopg.Connection[Any]) -> int:
        """Take steps until nothing more can be done; returns how many accounts they moved on."""
        total: int = 0
        failed: list[str] = []
        while True:
            steps = call(conn, "run_due", limit=self.limit)
            done: int = sum(step["done"] for step in steps)
            total += done
            failed = [f"{step['task']}: {step['error']}" for step in steps if step["error"]]
            for step in steps:
                if step["done"] or step["error"]:
                    self.report(step)
            if not done or self.stopping.is_set() or not any(s["remaining"] for s in steps):
                break
        call(conn, "note_run", runner=self.name, done=total, error="; ".join(failed) or None)
        return total
