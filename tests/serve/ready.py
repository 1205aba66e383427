"""A server that was started as a process: waited for by its log."""

import subprocess


def url_of(server: "subprocess.Popen[str]") -> str:
    """The address of a server, without a slash at its end, once its log on stderr says that it answers."""
    assert server.stderr is not None
    log = []
    for line in server.stderr:
        log.append(line)
        if " ready: " in line:
            return next(one for one in log if "http://" in one).split()[3].rstrip("/")
    raise AssertionError("".join(log))
