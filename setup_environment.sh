# shellcheck shell=bash
# Sourced by run_sft.sh and run_tests.sh: an environment with the pinned packages, active when this returns.
#
# An active environment that satisfies every pin is used as it is; otherwise .venv is made with $PYTHON (python3).
# A stamp in .venv names the pins it was filled from, so that a second run costs nothing.
# Every file's SHA-256 is compared with the lock files' on Linux x86_64; elsewhere, and with NO_HASHES=1, a line says that
# it is not.
# REQUIREMENTS: the file of pins (default: requirements.txt).

setup_python="${PYTHON:-python3}"
setup_pins="${REQUIREMENTS:-requirements.txt}"

if ! "$setup_python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "error: Python 3.11 or newer is needed, $setup_python is $("$setup_python" --version 2>&1); install it or set PYTHON=/path/to/python3.11" >&2
    exit 2
fi

if [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && python -m workspace.pins "$setup_pins" >/dev/null 2>&1; then
    : # the active environment is used as it is
else
    setup_stamp=".venv/pins-$({ cat requirements*; pwd; } | cksum | tr ' ' '-')-$(basename "$setup_pins")"
    if [ ! -e "$setup_stamp" ]; then
        # Also anew where an interrupted start left it without pip, or the repository was moved.
        if ! .venv/bin/python -m pip --version >/dev/null 2>&1 || ! grep -qF "$PWD/.venv" .venv/bin/activate; then
            echo "=== 1/6 Set up: making .venv with $("$setup_python" --version)" >&2
            "$setup_python" -m venv --clear .venv
        fi
        if ! .venv/bin/python -m workspace.pins "$setup_pins" >/dev/null 2>&1; then
            echo "=== 1/6 Set up: installing $setup_pins into .venv (minutes, once)" >&2
            .venv/bin/python -m workspace.locked "$setup_pins" >&2 || exit 2
        fi
        rm -f .venv/pins-*-"$(basename "$setup_pins")"
        touch "$setup_stamp"
    fi
    # shellcheck disable=SC1091
    source .venv/bin/activate
fi
unset setup_python setup_pins setup_stamp
