"""`python -m doctor`: see doctor/check.py."""

from doctor.check import main
from workspace.errors import run_main

if __name__ == "__main__":
    run_main(main)
