"""Imports ms-swift once and forks a process for each `swift` command of a run: 14 s a command are saved.

Run as: python -m plan.swift_server SOCKET, by run_sft.sh, which ends it; SWIFT_SERVER=off there goes without it.

The fork runs the file that `swift` would run, with the same arguments, environment, folder and log. Where that may
differ (another environment, torchrun, vLLM), it becomes the plain command. There is no server where there is a GPU:
CUDA does not survive a fork. workspace/child_process.py asks; how it ends is in workspace/supervisor.py.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from plan.hardware import child_environment, this_machine
from workspace import supervisor
from workspace.command_line import Parser
from workspace.errors import PIPELINE

METHODS = ("sft", "infer", "pt")
# What these commands import late, for the models of the recipes. One that a new version has not is left out.
LATE = (
    "transformers.models.qwen2.modeling_qwen2",
    "swift.agent_template",
    "swift.loss_scale",
    "torch.utils.tensorboard",
)
# Variables that nothing reads before the command begins; pytest's name the test that is running.
READ_LATE = ("LABEL_", "SAFE_CHECKPOINT_", "RUN_SFT_", "SWIFT_CONFIG_FILE", "PYTEST_")
SHELL = {"_", "SHLVL", "PWD", "OLDPWD", "COLUMNS", "LINES", "PS1"}
SUPERVISOR = "swift guard"  # how `ps` and `top` name what watches over a fork, which itself is named by its command
REQUEST_BYTES = 1 << 20


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until the parent ends."""
    parser = Parser("python -m plan.swift_server", __doc__)
    parser.add_argument("socket", type=Path)
    parser.add_argument("--ready", action="store_true", help="the environment is that of ms-swift already")
    options = parser.parse_args(argv)
    if not options.ready:
        machine = this_machine()
        if sys.platform != "linux" or machine.gpu is not None:
            return 0
        command = [sys.executable, "-m", "plan.swift_server", str(options.socket), "--ready"]
        os.execve(sys.executable, command, child_environment(machine))  # noqa: S606
    supervisor.end_with_parent(int(os.environ.get(PIPELINE) or os.getppid()))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(options.socket))
    listener.listen()
    os.setsid()  # a Ctrl-C is for the stage, which ends what was forked for it
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    started = dict(os.environ)
    importlib.import_module("swift.cli.main")
    from swift.pipelines import infer_main, pretrain_main, sft_main  # noqa: F401

    for name in LATE:
        with suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()
    fork_for_each(listener, lambda connection: _supervise(connection, started))


def fork_for_each(listener: socket.socket, serve: Callable[[socket.socket], None]) -> NoReturn:
    """Have a fork of this process `serve` each connection, which ends the fork; for ever."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            serve(connection)
        connection.close()


def _supervise(connection: socket.socket, started: dict[str, str]) -> None:
    """Fork the command that is asked for, watch over it for whoever asks, and say how it ended."""
    os.setsid()
    _name_process(SUPERVISOR)
    message, descriptors, _, _ = socket.recv_fds(connection, REQUEST_BYTES, 1)
    while not message.endswith(b"\n") and (more := connection.recv(REQUEST_BYTES)):
        message += more
    connection.sendall(f"{os.getpid()}\n".encode())
    log, mine, requests, gone = descriptors[0], os.getpid(), 0, False

    def start() -> int:
        pid = os.fork()
        if pid == 0:
            supervisor.end_with_parent(mine)
            connection.close()
            _become(json.loads(message), log, started)
        with suppress(OSError):
            os.setpgid(pid, pid)
        return pid

    def asked() -> int:
        nonlocal requests, gone
        try:
            words = connection.recv(8, socket.MSG_DONTWAIT)
            requests, gone = requests + len(words), not words
        except BlockingIOError:
            pass
        except OSError:
            gone = True
        return requests + gone

    status = supervisor.supervise(start, asked)
    with suppress(OSError):
        connection.sendall(f"{status}\n".encode())
    os._exit(0)


def _become(request: dict[str, Any], log: int, started: dict[str, str]) -> None:
    """Be the command: with its folder, log and environment, and signals as in a process just started.

    `started`: the environment before ms-swift was imported, which sets some variables itself.
    """
    os.setpgid(0, 0)
    for sign in supervisor.ASKING:
        signal.signal(sign, signal.default_int_handler if sign == signal.SIGINT else signal.SIG_DFL)
    os.chdir(request["folder"])
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    command, env = request["command"], request["env"]
    reasons = [name for name in env.keys() | started.keys() if not _may_differ(name)]
    reasons = [name for name in reasons if env.get(name) not in (started.get(name), os.environ.get(name))]
    for name in filter(_may_differ, os.environ.keys() | env.keys()):
        os.environ.pop(name, None)
        os.environ.update({name: env[name]} if name in env else {})
    from swift.cli.main import ROUTE_MAPPING, parse_yaml_args, use_torchrun

    before, arguments = dict(os.environ), command[2:]
    parse_yaml_args(arguments)  # sets what the YAML has below `ENV`
    reasons += [name for name in os.environ if not _may_differ(name) and os.environ[name] != before.get(name)]
    reasons += (
        ["torchrun"] * use_torchrun() + ["vllm"] * ("vllm" in arguments) + [command[1]] * (command[1] not in METHODS)
    )
    if reasons:
        print(f"a process of its own, not a fork: {', '.join(sorted(reasons))}", flush=True)
        os.execvpe(command[0], command, env)  # noqa: S606
    _name_process(" ".join(command[:2]))
    script = str(importlib.import_module(ROUTE_MAPPING[command[1]]).__file__)
    sys.argv, sys.path[0] = [script, *arguments], str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")
    sys.exit()


def _name_process(name: str) -> None:
    Path("/proc/self/comm").write_text(name, encoding="utf-8")


def _may_differ(name: str) -> bool:
    """Whether nothing reads this variable before a command begins."""
    return name in SHELL or name.startswith(READ_LATE)


if __name__ == "__main__":
    sys.exit(main())
