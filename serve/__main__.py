"""Serve the classifier of a run or a bundle over HTTP: typed decisions, a page to try it, metrics.

Run as: python -m serve RUN_OR_BUNDLE [--port 8000] [--host ADDRESS --api-key FILE]; --help tells the limits
"""

import asyncio
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace

from serve.http.api_key import VARIABLE, KeyCheck, is_loopback, read_keys
from serve.http.limits import Limits
from workspace.command_line import Parser, given_model, given_number, given_path
from workspace.errors import UserError, run_main
from workspace.paths import shown
from workspace.ranges import Range, whole

READINGS, ENGINES = ("tuned", "linear", "stack"), ("transformers", "vllm")
VLLM_ROWS = 256  # of a batch: vLLM runs so many side by side, and makes its own order of them


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal ends it. Raises `UserError` for what cannot be served."""
    parser = Parser("python -m serve", __doc__)
    parser.add_argument("path", type=given_path, metavar="RUN_OR_BUNDLE", help="a finished run's folder, or a bundle")
    parser.add_argument("--host", default="127.0.0.1", help="another address needs a key; default: %(default)s")
    parser.add_argument("--port", type=given_number(whole(0, 65535)), default=8000, help="0: a free one; %(default)s")
    parser.add_argument(
        "--api-key", type=given_path, metavar="FILE", help=f"a file with the key, a line each; else ${VARIABLE}, if set"
    )
    parser.add_argument("--reading", choices=READINGS, help="of a run: default what the report advises")
    parser.add_argument(
        "--base",
        type=given_model,
        metavar="MODEL",
        help="the base model's folder or id, where a bundle holds an adapter alone",
    )
    parser.add_argument(
        "--engine", choices=ENGINES, default=ENGINES[0], help="what runs a tuned model, vllm on a GPU; %(default)s"
    )
    parser.add_argument("--name", help="the model's name on the wires; default: the task's")
    parser.add_argument("--waiting", type=given_number(whole(1, 10**6)), default=Limits.waiting, metavar="N",
                        help="rows in the queue, more are told to come back; default: %(default)s")  # fmt: skip
    parser.add_argument("--seconds", type=given_number(Range(0.1, 3600)), default=Limits.seconds, metavar="S",
                        help="until an answer, then it is given up; default: %(default)s")  # fmt: skip
    parser.add_argument("--log-texts", action="store_true", help="write texts and answers to the log")
    options = parser.parse_args(argv)
    keys = read_keys(options.api_key)
    if not keys and not is_loopback(options.host):
        raise UserError(
            f"--host {options.host} is reached from other machines: set a key, with --api-key FILE or {VARIABLE}"
        )
    if not options.path.is_dir():
        raise UserError(f"{shown(options.path)} is no folder: name that of a finished run, or of a bundle")
    limits = replace(Limits(), waiting=options.waiting, seconds=options.seconds)
    if options.engine == "vllm":
        limits = replace(limits, batch_rows=VLLM_ROWS, batch_characters=VLLM_ROWS * limits.batch_characters)
    return _serve(options, keys, limits)


def _serve(options: Namespace, keys: tuple[str, ...], limits: Limits) -> int:
    # Imported here: a fault in the words of the command is told at once.
    from serve.http.app import make_app
    from serve.http.logs import LOG, set_up
    from serve.http.server import Listener, listen
    from serve.http.service import Documents, Service

    path = options.path
    set_up(options.log_texts)
    sock = listen(options.host, options.port)
    sys.setswitchinterval(0.001)  # the loop that takes requests waits for the scorer's thread no longer than this

    def load():  # type: ignore[no-untyped-def]
        from serve.classifier import Classifier

        return Classifier.load(path, options.reading, options.base, options.engine)

    service = Service(options.name, load, limits, Documents.of(path))
    # With a key any name may lead here, such as that of a proxy.
    check = KeyCheck(keys, None if keys else frozenset({options.host}))
    listener = Listener(make_app(service, check, lambda: listener.end()), sock, limits, service.end)
    shown_host = f"[{options.host}]" if ":" in options.host else options.host
    LOG.info("http://%s:%d/ (Ctrl-C ends it); loading %s", shown_host, listener.port, shown(path))
    asyncio.run(listener.serve(signals=True))
    if service.failure is not None:
        raise service.failure
    print("ended: every request that was under way has its answer", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_main(main)
