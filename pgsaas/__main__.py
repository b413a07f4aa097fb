"""`python -m pgsaas` is the command line, too."""

from __future__ import annotations

from pgsaas.cli import main

if __name__ == "__main__":
    main()
