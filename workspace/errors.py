"""Errors that a user can mend, and how a command ends with one: one sentence, exit status 2, no traceback."""

import sys
from collections.abc import Callable

EXIT_BAD_INPUT = 2


class UserError(Exception):
    """Bad input. The message is one sentence: what is wrong, where (file, line), and the remedy."""


def run_main(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and end the process with its status.

    A `UserError` becomes its message on stderr and exit status 2; Ctrl-C becomes 130. Anything else is a defect
    of ours and keeps its traceback.
    """
    try:
        sys.exit(main() or 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        sys.exit(130)
