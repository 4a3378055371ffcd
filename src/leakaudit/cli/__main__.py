"""`python -m leakaudit.cli`: the command line without its console script."""

from __future__ import annotations

from leakaudit.cli import main

if __name__ == "__main__":
    main()
