"""How a command ends: one sentence and a status, no traceback, for all that a user can mend.

Status 2: bad input. 1: the machine failed (disk, memory). 130, 143, 129: interrupted, terminated, hung up.
"""

import difflib
import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable

from workspace.paths import printable
from workspace.supervisor import end_with_parent

EXIT_FAULT = 1
EXIT_BAD_INPUT = 2
PIPELINE = "RUN_SFT_PID"  # in the environment of run_sft.sh's stages: its pid
GO_ON = "the same command goes on from here"
# How an allocation that fails ends a command, on a line of its own anywhere in what it wrote.
# Before it may stand whose line it is: [rank1]: by torchrun, (EngineCore_DP0 pid=270) ERROR 11-27 10:00:00 by vLLM.
NO_MEMORY = re.compile(
    r"^(?:\[rank\d+\]:|\([\w ]+pid=\d+\)(?: [A-Z]+ [\d:. -]+(?:\[[^\]]*\])?)?)?\s*"
    r"([\w.]*MemoryError\b|.*std::bad_alloc|.*Cuda failure (\d+ )?'out of memory'"
    r"|[\w.]*Error: .*(out of memory|can't allocate memory|_STATUS_ALLOC_FAILED"
    r"|No available memory for the cache blocks|larger than the available KV cache memory"
    r"|is less than desired GPU memory utilization))",
    re.MULTILINE,
)
# The same of a card's memory, by its maker's libraries.
CARDS_OWN = re.compile(r"\b(CUDA|HIP|CUBLAS|HIPBLAS)")
# What a disk or the system may answer to a call that is right.
REASONS = {
    errno.ENOSPC: "the disk is full: make room",
    errno.EDQUOT: "the disk quota is used up: make room",
    errno.EFBIG: "the file is larger than this disk or user may hold: write to another disk",
    errno.EIO: "the disk failed (input/output error): check it, or write to another disk",
    errno.EROFS: "the disk is read-only: write to another folder",
    errno.EACCES: "permission denied: change the owner or write to another folder",
    errno.EPERM: "not permitted: change the owner or write to another folder",
    errno.ESTALE: "the network disk is gone: mount it again",
    errno.EMFILE: "too many files are open: raise `ulimit -n`",
    errno.ENFILE: "too many files are open on this machine: end other programs",
    errno.ENOMEM: "no memory is left: end other programs",
}
# What it may answer to a path that cannot be one.
BAD_PATHS = {
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.ENOTDIR: "a part of the path is a file, not a folder: name another path",
    errno.ELOOP: "links lead in a circle: name another path",
    errno.EISDIR: "a folder is where a file is expected: name a file",
    errno.EEXIST: "a file is where a folder is expected: name another path",
}


class UserError(Exception):
    """Bad input. The message is one sentence: what is wrong, where (file, line), and the remedy."""

    status = EXIT_BAD_INPUT


class MachineFault(UserError):
    """The machine failed at something that was asked rightly: no room on a disk, no memory."""

    status = EXIT_FAULT


def run_main(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and end the process with its status.

    A `UserError`, and an error of the disk or the system, becomes its message on stderr; Ctrl-C and the signals that
    end a process unwind it, so that its children end and its files stay whole; so does the end of the pipeline that it
    is a stage of. Anything else is a defect of ours and keeps its traceback.
    """
    for sign in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal hangs up; under nohup that stays ignored
        if signal.getsignal(sign) != signal.SIG_IGN:
            signal.signal(sign, _interrupt)
    if os.environ.get(PIPELINE) == str(os.getppid()):
        end_with_parent(os.getppid(), signal.SIGTERM)
    status: int | str | None
    try:
        status = main() or 0
    except UserError as error:
        status = _tell(str(error), error.status)
    except BrokenPipeError:  # what it prints to was closed, as by `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's own flush at the end fails, too
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        if error.errno not in REASONS | BAD_PATHS:  # also None
            raise
        status = _tell(fault_sentence(error), EXIT_BAD_INPUT if error.errno in BAD_PATHS else EXIT_FAULT)
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except SystemExit as end:
        status = end.code
    except Exception as error:
        if not is_want_of_memory(error):
            raise
        status = _tell(_want_of_memory(error), EXIT_FAULT)
    if isinstance(status, int) and status > 128 and PIPELINE not in os.environ:  # run_sft.sh says it itself
        print(f"\nended by signal {status - 128}: {GO_ON}", file=sys.stderr)
    sys.exit(status)


def fault_sentence(error: OSError) -> str:
    """An error of the disk or the system in one sentence, with the file, the remedy and how to go on."""
    where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    if error.errno in BAD_PATHS:
        return f"{where}{BAD_PATHS[error.errno]}"
    return f"{where}{REASONS[error.errno or 0]}, then run the same command again"


def is_want_of_memory(error: BaseException) -> bool:
    """Whether memory does not hold what was asked of it: the machine's, or a card's by the words of torch or cuBLAS.

    torch need not be there: most of its errors are `RuntimeError`s that differ by their words alone.
    """
    if isinstance(error, UserError):  # is told already
        return False
    return isinstance(error, MemoryError) or NO_MEMORY.search(f"{type(error).__name__}: {error}") is not None


def nearest(word: str, known: Iterable[object]) -> str:
    """', did you mean X?' for the nearest of `known`, to end a message with; nothing when none is near."""
    close = difflib.get_close_matches(word, [str(name) for name in known], n=1)
    return f", did you mean {close[0]}?" if close else ""


def _want_of_memory(error: Exception) -> str:
    if CARDS_OWN.search(str(error)):
        remedy = "put CUDA_VISIBLE_DEVICES= (empty) before the command to compute on the CPU"
        return f"the GPU's memory does not hold this: end what else holds it, or {remedy}"
    return "no memory is left: end other programs, or take fewer rows where the command has --limit"


def _tell(message: str, status: int) -> int:
    print(f"error: {printable(message, keep=chr(10))}", file=sys.stderr)
    return status


def _interrupt(sign: int, _frame: object) -> None:
    raise SystemExit(128 + sign)
