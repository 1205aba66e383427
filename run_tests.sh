#!/usr/bin/env bash
# Every check of this project: set up, then ruff, shellcheck, mypy, advisories and pytest.
#
#   bash run_tests.sh --quick            pure code and the CPU kernels; three to five minutes on two CPU cores
#   bash run_tests.sh                    also real ms-swift runs and the report in a browser; an hour at most, on two CPU cores
#   bash run_tests.sh --all              also what is long and seldom finds anything new (FAULTS=all)
#   bash run_tests.sh tests/plan         more words are pytest's
#   TEST_WORKERS=0 bash run_tests.sh     one test at a time; two by default
#
# Needs no GPU, no model hub and no data outside the repository. Tests whose needs are missing (Chromium for the report
# in a browser, ../shared for real data) are skipped and named at the end.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

banner() { printf '\n=== %s\n' "$*"; }

which="not all"
case "${1-}" in
    --quick) which="not swift and not browser and not slow and not all" && shift ;;
    --all) which="" && export FAULTS=all && shift ;;
esac

banner "Set up"
export REQUIREMENTS=requirements-dev.txt
source ./setup_environment.sh

banner "ruff"
ruff check .
ruff format --check .

banner "shellcheck"
if command -v shellcheck >/dev/null; then
    shellcheck -x ./*.sh .ci/run .ci/relock
else
    echo "skipped: shellcheck is not installed"
fi

banner "mypy"
mypy

banner "Advisories"
python .ci/advisories.py

# Once, before two workers would both fetch and measure. Where they cannot be had, the tests that need them are skipped.
banner "Demo model, reviews, this machine"
python -m demo.model || true
python -m demo.reviews || true
python -m plan.cpu_kernels

banner "pytest"
workers=${TEST_WORKERS:-2}
if [ "$workers" -gt 1 ]; then
    threads=$(($(getconf _NPROCESSORS_ONLN) / workers)) # each worker's share of the cores, or both would wait for each other's threads
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((threads > 1 ? threads : 1))}"
fi
exec python -m pytest -n "$workers" --dist loadgroup --no-loadscope-reorder -m "$which" "$@"
