"""Where the demo's server keeps its data, so that it can be opened again afterwards.

In the user's cache; root's cache is out of reach for the user PostgreSQL runs as, so root has
/var/cache. One process at a time uses a folder, and only a folder of ours is ever emptied.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pgsaas.errors import PgsaasError

MARK = "MADE-BY-PGSAAS-DEMO"
SYSTEM_CACHE = Path("/var/cache")


def default_folder() -> Path:
    """The folder for this user."""
    if os.geteuid() == 0:
        return SYSTEM_CACHE / "pgsaas" / "demo"
    cache = os.environ.get("XDG_CACHE_HOME")
    home = Path(cache) if cache else Path.home() / ".cache"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir()) / f"pgsaas-demo-{os.geteuid()}"
    if os.access(home, os.W_OK):
        return home / "pgsaas" / "demo"
    return Path(tempfile.gettempdir()) / f"pgsaas-demo-{os.geteuid()}"


@contextmanager
def occupied(folder: Path, *, fresh: bool) -> Iterator[Path]:
    """Hold the folder for this process; `fresh` empties it. Raises PgsaasError if it cannot be."""
    try:
        _make(folder)
        mark = open(folder / MARK, "a", opener=_no_links)  # noqa: SIM115
    except OSError as error:
        raise PgsaasError(f"the demo cannot use {folder}: {error.strerror}") from error
    with mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise PgsaasError(
                f"a demo is running on {folder}: end it first, or give another --folder"
            ) from error
        if pid := _running(folder):
            raise PgsaasError(f"a server left behind runs on {folder}: end it with `kill {pid}`")
        if fresh and (folder / "data").is_dir():
            shutil.rmtree(folder / "data")
        yield folder


def has_data(folder: Path) -> bool:
    """Whether a demo was played there."""
    return (folder / MARK).exists() and (folder / "data" / "PG_VERSION").exists()


def _make(folder: Path) -> None:
    if folder.parent == SYSTEM_CACHE / "pgsaas":
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.parent.chmod(0o755)  # whatever the umask: PostgreSQL runs as another user
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if (os.geteuid() and found.st_uid != os.geteuid()) or not stat.S_ISDIR(found.st_mode):
        raise PgsaasError(f"{folder} belongs to somebody else: give another --folder")
    if not (folder / MARK).exists() and any(folder.iterdir()):
        raise PgsaasError(f"{folder} holds other files: give another --folder")


def _no_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _running(folder: Path) -> int | None:
    """The pid of a server that outlived its demo."""
    try:
        pid = int((folder / "data" / "postmaster.pid").read_text().split()[0])
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, IndexError):
        return None
    return pid if str(folder).encode() in command else None
