# shellcheck shell=bash
# Sourced by run_sft.sh and run_tests.sh: an environment with the pinned packages, active when this returns.
#
# An active environment that satisfies every pin is used as it is; otherwise .venv (for requirements-vllm.txt .venv-vllm)
# is made with $PYTHON (python3) and filled by uv, or by pip where uv cannot be had (workspace/install.py: hashes, builds
# of torch, mirrors, proxies). A stamp in it names the pins it was filled from, so that a second run costs nothing.
# REQUIREMENTS: the file of pins (default: requirements.txt). NO_HASHES=1: versions alone, no SHA-256 is compared.

unset PYTHONHOME PYTHONINSPECT PYTHONOPTIMIZE PYTHONSAFEPATH # with them `python -m` finds other modules, or never ends
setup_python="${PYTHON:-python3}"
setup_pins="${REQUIREMENTS:-requirements.txt}"

if ! "$setup_python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "error: Python 3.11 or newer is needed, $setup_python is $("$setup_python" --version 2>&1); install it or set PYTHON=/path/to/python3.11" >&2
    exit 2
fi

setup_fits=1
if [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
    setup_fits=0
    python -m workspace.install --check "$setup_pins" >/dev/null 2>&1 || setup_fits=$?
    if [ "$setup_fits" -gt 128 ]; then exit "$setup_fits"; fi # killed: that says nothing of the environment
fi
if [ "$setup_fits" -ne 0 ]; then # otherwise the active environment is used as it is
    setup_venv=.venv
    case "$setup_pins" in *requirements-vllm.txt) setup_venv=.venv-vllm ;; esac # vLLM takes other versions
    setup_stamp="$setup_venv/pins-$({ cat requirements*; pwd; } | cksum | tr ' ' '-')-$(basename "$setup_pins")"
    if [ ! -e "$setup_stamp" ]; then
        "$setup_python" -m workspace.install "$setup_pins" --stamp "$setup_stamp" >&2 || exit 2
    fi
    # shellcheck disable=SC1091
    source "$setup_venv/bin/activate"
    # Until this shell ends, no set-up changes the packages that it runs with (workspace/install.py waits).
    # By number: macOS's bash 3.2 cannot choose one, and zsh takes one digit.
    if [ -e "$setup_venv.lock" ]; then exec 8<"$setup_venv.lock" && { flock --shared 8 2>/dev/null || true; }; fi
fi
unset setup_python setup_pins setup_venv setup_stamp setup_fits
