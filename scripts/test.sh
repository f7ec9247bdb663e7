#!/bin/sh
# Runs the checks: test.sh lint|unit|lab|all. pytest comes last, so its closing line is the end of the output;
# with CI=true nothing of the lab is left running, whatever the tests ended with.
set -eu
cd "$(dirname "$0")/.."
bin=.venv/bin
PATH="$PWD/$bin:$PATH" # restic, rclone and the object store of lab/tools.py
export PATH

lint() {
    $bin/ruff check .
    $bin/ruff format --check -q . || { echo "run make format"; return 1; }
    $bin/mypy
    # The oldest Python of a host that is supported (docs/support.md): what newer ones added is an error here.
    $bin/mypy --python-version 3.10 --cache-dir .mypy_cache/agent agent
}

# Side by side, a file's tests together; three at a time, as many wait for programs.
# All but moving traffic works without the cloud SDKs, so all but its tests run where neither can be imported.
unit() {
    moving="tests/unit/traffic tests/unit/hetzner"
    # shellcheck disable=SC2046,SC2086
    PYTHONPATH="$PWD/tests/without_cloud" $bin/pytest tests/unit tests/model $(printf -- ' --ignore=%s' $moving) -n 3 --dist loadfile
    # shellcheck disable=SC2086
    $bin/pytest $moving -n 3 --dist loadfile
}

# Side by side too, in two lists of files (tests/lab/conftest.py), each worker with a lab of its own. The first one is
# staged before, so that engine, images and store are there once, and are the first lab's to take down.
lab() {
    $bin/understudy lab up >&2
    $bin/pytest tests/lab -n 2 --dist loadscope --durations 25
}

leave_nothing_running() {
    status=$?
    if [ "${CI:-}" = true ]; then
        $bin/understudy lab down --engine >&2 || echo "the lab could not be taken down" >&2
    fi
    exit "$status"
}

case "${1:-all}" in
lint) lint ;;
unit) unit ;;
lab)
    trap leave_nothing_running EXIT
    lab
    ;;
all)
    lint
    scripts/wheel.sh
    trap leave_nothing_running EXIT
    unit
    lab
    ;;
*)
    echo "usage: scripts/test.sh lint|unit|lab|all" >&2
    exit 2
    ;;
esac
