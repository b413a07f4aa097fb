"""Where the SQL is: inside the installed package, else in the checkout around it.

Everything is read as UTF-8 with line ends as `\\n`, so a hash does not depend on how a
checkout was made.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pgsaas.errors import DamagedInstallation


@dataclass(frozen=True, slots=True)
class SqlFile:
    """One file as it is executed: its name without folder, its text and its sha256."""

    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Hex digest of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Resources:
    """A folder that holds `sql/` and `migrations/`."""

    root: Path

    @property
    def migrations_folder(self) -> Path:
        """The folder yoyo reads."""
        return self.root / "migrations"

    def rooms(self) -> list[SqlFile]:
        """The files of `sql/` in the order they are loaded."""
        return _read(self.root / "sql", "*.sql")

    def migrations(self) -> dict[str, SqlFile]:
        """Every migration by its id (the file name without suffix), in name order."""
        files = _read(self.migrations_folder, "[0-9]*.sql")
        return {
            file.name.removesuffix(".sql"): file
            for file in files
            if not file.name.endswith(".rollback.sql")
        }

    def roles(self) -> SqlFile:
        """The bootstrap: roles, membership, schema."""
        return _read(self.migrations_folder / "bootstrap", "roles.sql")[0]

    def sql_sha256(self) -> str:
        """One digest over the names and texts of `sql/`."""
        digest = hashlib.sha256()
        for room in self.rooms():
            digest.update(f"{room.name}\n{room.sha256}\n".encode())
        return digest.hexdigest()


def packaged() -> Resources:
    """The SQL this installation of pgsaas came with.

    Raises DamagedInstallation when neither the package nor a checkout around it has it.
    """
    package = Path(__file__).resolve().parent
    for root in (package / "_data", package.parent):
        if (root / "sql").is_dir() and (root / "migrations").is_dir():
            return Resources(root)
    raise DamagedInstallation


def _read(folder: Path, pattern: str) -> list[SqlFile]:
    paths = sorted(folder.glob(pattern), key=lambda path: path.name)
    if not paths:
        raise DamagedInstallation(f"no {pattern} in {folder}: install pgsaas again")
    return [SqlFile(path.name, path.read_text(encoding="utf-8")) for path in paths]
