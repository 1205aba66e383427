"""`python -m plan`: see plan/cli.py."""

from plan.cli import main
from workspace.errors import run_main

if __name__ == "__main__":
    run_main(main)
