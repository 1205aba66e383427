#!/usr/bin/env bash
# From a table of labelled texts to a tuned model and a report that says what it is worth.
#
#   bash run_sft.sh demo                      a 26M-parameter model on 5,686 real reviews; minutes on two CPU cores
#   bash run_sft.sh                           the default recipe: Qwen1.5-0.5B-Chat on ChnSentiCorp hotel reviews
#   bash run_sft.sh my.csv                    your own table: looked at (init), then the whole job
#   bash run_sft.sh init my.csv [--text COLUMN ...] [--label COLUMN]   writes swift_configs/my/task.yaml, to be looked at
#   bash run_sft.sh hotel_reviews --csv my.csv --model PATH_OR_ID --limit 800
#   bash run_sft.sh hotel_reviews --with rank64 clean      with overrides
#   bash run_sft.sh sweep hotel_reviews                    learning rates and epochs, chosen on validation
#   bash run_sft.sh sweep hotel_reviews --vary rank8 rank64 --seeds 42 43   which of these is better
#   bash run_sft.sh hotel_reviews --seeds 42 43 44         a verdict on the recipe: mean, spread and interval over seeds
#   bash run_sft.sh curve hotel_reviews                    how good with how many rows, and what more labels would bring
#   bash run_sft.sh path/to/my_task --cv 5                 cross-validation: for tables of a few hundred rows
#   bash run_sft.sh again runs/demo/minimind2-small        the same run once more
#   bash run_sft.sh export RUN                what the report advises, as one folder to carry (a bundle)
#   bash run_sft.sh predict RUN_OR_BUNDLE my.csv           a table labelled: label, probabilities, what is left to a person
#   bash run_sft.sh serve RUN_OR_BUNDLE       a page to try it, and an address for programs
#   bash run_sft.sh next RUN my.csv --rows 200             the rows whose labels would teach most
#   bash run_sft.sh verify [demo]                          is it right on this machine? the original experiment, its ranges
#   bash run_sft.sh doctor [recipe] [options]              would it go through here? writes and downloads nothing
#   bash run_sft.sh --help                    every option
#
# Hardware: any; a GPU is used where there is one. Times and memory: docs/results.md.
# The same command again skips what is finished and goes on where it stopped. Each line below can be run by hand.

set -euo pipefail
unset PYTHONHOME PYTHONINSPECT PYTHONOPTIMIZE PYTHONSAFEPATH # each would keep `python -m` from being what it is here
export RUN_SFT_CALLER="$PWD" # relative paths in the options are the caller's
export RUN_SFT_PID="$$"      # holds the run's lock from the first stage to the last
cd "$(dirname "${BASH_SOURCE[0]}")"
# Many images have Python write no bytecode: each of a run's dozen processes would then compile all that it imports, 5 s
# for pandas and 15 s for ms-swift. What is compiled is kept in the cache, and nothing is written next to the sources.
if [ -n "${PYTHONDONTWRITEBYTECODE-}" ] && [ "${1-}" != doctor ]; then # which writes nothing
    unset PYTHONDONTWRITEBYTECODE
    cache="${SWIFT_SFT_CACHE:-${XDG_CACHE_HOME:-${HOME:-$PWD}/.cache}/swift-sft}"
    export PYTHONPYCACHEPREFIX="${PYTHONPYCACHEPREFIX:-${cache/#\~\//${HOME-}/}/bytecode}"
fi

banner() { printf '\n=== %s\n' "$*" >&2; }

# A signal ends the running stage first, and with it ms-swift's processes; a second one does so at once.
stage=
# shellcheck disable=SC2317  # called by the traps below
interrupted() {
    trap 'kill "$stage" 2>/dev/null || true' INT TERM HUP
    if [ -n "$stage" ]; then
        kill "$stage" 2>/dev/null || true
        while kill -0 "$stage" 2>/dev/null; do wait "$stage" || true; done
    fi
    exit "$1"
}
trap 'interrupted 130' INT
trap 'interrupted 143' TERM
trap 'interrupted 129' HUP
run='' planned='' private=''
# shellcheck disable=SC2317  # called by the trap below
ended() {
    local status=$?
    rm -rf ${private:+"$private"}
    if [ "$status" -gt 128 ]; then echo "ended by signal $((status - 128)): the same command goes on from here" >&2; fi
}
trap ended EXIT
# In the background, because bash hears a signal only between commands or in `wait`.
step() {
    python -m "$@" &
    stage=$!
    wait "$stage"
    stage=
}

# The first line is the hash of the plan; should another command plan this run anew, the stages do not go on with it.
answered() {
    { IFS= read -r planned && run=$(cat); } <"$RUN_SFT_ANSWER"
    export RUN_SFT_PLANNED="$planned"
}

# In a function, so that bash has read it all before it starts: the file may change while a run goes on.
main() {
    local what=plan verify=''
    if [ "${1-}" = doctor ]; then
        shift
        # In the environment that a run would use, as far as it is there: nothing is installed.
        local python="${PYTHON:-python3}" venv=.venv
        case "${REQUIREMENTS-}" in *requirements-vllm.txt) venv=.venv-vllm ;; esac
        if [ -x "$venv/bin/python" ]; then python="$venv/bin/python"; fi
        if [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && { [ ! -x "$venv/bin/python" ] ||
            python -B -m workspace.install --check "${REQUIREMENTS:-requirements.txt}" >/dev/null 2>&1; }; then python=python; fi
        if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "fault   故障  python: $python is no Python 3.11 or newer -> install one, or set PYTHON=/path/to/python3.11"
            exit 1
        fi
        exec "$python" -B -m doctor "$@"
    fi
    case "${1-}" in
        again) what=train.rerun && shift ;;
        init) what=data_prep.init && shift ;;
        sweep) what=train.sweep && shift ;;
        curve) what=eval.curve && shift ;;
        export | predict | next) what=serve.$1 && shift ;;
        serve) what=serve && shift ;;
        verify)
            verify=yes && shift
            case "${1-}" in '' | -*) set -- hotel_reviews --with original-split "$@" ;; esac
            ;;
    esac
    for word in "$@"; do
        case "$word" in
            # Help on a run needs nothing but Python; on the others, what they import.
            --cv | --cv=*) what=eval.cross_validation ;;
            --seeds | --seeds=*) if [ "$what" = plan ]; then what=eval.seeds; fi ;;
            -h | --help) [ "$what" = plan ] || source ./setup_environment.sh; exec "${PYTHON:-python3}" -m "$what" --help ;;
        esac
    done
    if [ -n "$verify" ] && [ "$what" != plan ]; then
        echo "error: verify is for one run: leave --seeds and --cv out" >&2
        exit 2
    fi

    # 1/6 Set up: silent when there is nothing to do
    source ./setup_environment.sh
    case "$what" in
        data_prep.init | serve | serve.*)
            step "$what" "$@"
            exit
            ;;
    esac
    private=$(mktemp -d)
    export RUN_SFT_GPUS="$private/gpus.json" # torch is asked for the GPUs once, for all stages
    # ms-swift is imported once, meanwhile, and each `swift` command is a fork of it; SWIFT_SERVER=off goes without
    if [ -z "${SWIFT_SERVER-}" ]; then
        export SWIFT_SERVER="$private/socket"
        python -m plan.swift_server "$SWIFT_SERVER" &
    fi
    local models=''
    case "$what" in
        eval.cross_validation) models="each fold, which answers the rows of that fold" ;;
        eval.seeds) models="each seed, which answers the test rows" ;;
        eval.curve) models="each number of rows and each seed, which answers the test rows" ;;
    esac
    if [ -n "$models" ]; then
        banner "Tune a model for $models"
        step "$what" "$@"
        return
    fi
    # What will run; its first line says so when it is the demo in place of the default recipe. An earlier run in this
    # folder is replaced only when the data is prepared: a table that cannot be read leaves it as it was.
    case "$what" in
        train.sweep) banner "2/6 Prepare and tune the trials" ;;
        *) banner "2/6 Plan, and prepare the data" ;;
    esac
    export RUN_SFT_ANSWER="$private/answer" # a file of its own: a sitecustomize.py may print, too
    step "$what" "$@" >/dev/null
    answered
    if [ -n "$verify" ]; then step eval.verify --recipe "$run"; fi
    # The first stage that takes the run's lock takes it on this descriptor, for all until this shell ends.
    exec 9<>"$run/lock" # by number: macOS's bash 3.2 cannot choose one
    export RUN_SFT_LOCK=9

    if [ -d "$run/texts" ]; then
        banner "Texts without labels: swift pt"
        step train.texts "$run" >/dev/null
        answered
    fi

    banner "3/6 Before: the untuned model answers the test reviews"
    step eval.baselines "$run"
    step eval.infer "$run" before

    banner "4/6 Tune: swift sft $run/sft.yaml"
    step train.sft "$run"

    banner "5/6 After: the tuned model answers the same reviews"
    step eval.infer "$run" after

    banner "6/6 Report"
    step eval.report "$run"
    if [ "$what" = train.rerun ]; then step train.rerun --compare "$run"; fi
    if [ -n "$verify" ]; then step eval.verify "$run"; fi
}

main "$@"; exit
