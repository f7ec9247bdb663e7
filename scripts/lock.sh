#!/bin/sh
# Resolves pyproject.toml into hashed requirement files for every Python and platform, without any address in them.
set -eu
cd "$(dirname "$0")/.."
.venv/bin/python -m pip install -q --disable-pip-version-check uv

compile() {
    output=$1
    shift
    .venv/bin/uv pip compile -q --upgrade --generate-hashes --universal --python-version 3.11 --no-annotate \
        --no-header --no-emit-index-url --no-emit-find-links "$@" pyproject.toml -o "$output"
    if grep -nE '://|^-' "$output"; then
        echo "$output holds an address" >&2
        exit 1
    fi
}

compile requirements/runtime.txt
compile requirements/dev.txt --extra dev --extra lab
