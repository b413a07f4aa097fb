"""After plain `yoyo apply`: load sql/ too, so that it leaves a working database."""

from __future__ import annotations

from pathlib import Path

from yoyo import step

from pgsaas.install import load_after_yoyo

step(lambda conn: load_after_yoyo(conn, Path(__file__).resolve().parent.parent))
