#!/usr/bin/env bash
# Every check of this project: set up, then ruff, shellcheck and pytest, the real end-to-end run included.
#
#   bash run_tests.sh                    everything; 17 to 24 minutes on two CPU cores
#   bash run_tests.sh -m 'not swift'     without the tests that run ms-swift
#   TEST_WORKERS=0 bash run_tests.sh     one test at a time; two by default
#
# Needs no GPU, no model hub and no data beside the repository. Tests whose needs are missing (Chromium for the report
# in a browser, ../shared for real data) are skipped and named at the end.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

banner() { printf '\n=== %s\n' "$*"; }

banner "Set up"
export REQUIREMENTS=requirements-dev.txt
source ./setup_environment.sh

banner "ruff"
ruff check .
ruff format --check .

banner "shellcheck"
if command -v shellcheck >/dev/null; then
    shellcheck -x ./*.sh .ci/run
else
    echo "skipped: shellcheck is not installed"
fi

banner "Known holes"
python -m workspace.holes requirements*.txt requirements*.lock

# Once, before two workers would both fetch and measure. Where they cannot be had, the tests that need them are skipped.
banner "Demo model, reviews, this machine"
python -m demo.model || true
python -m demo.reviews || true
python -m plan.cpu_kernels

banner "pytest"
workers=${TEST_WORKERS:-2}
if [ "$workers" -gt 1 ]; then
    threads=$(($(nproc) / workers)) # each worker's share of the cores, or both would wait for each other's threads
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((threads > 1 ? threads : 1))}"
fi
exec python -m pytest -n "$workers" --dist loadgroup --no-loadscope-reorder "$@"
