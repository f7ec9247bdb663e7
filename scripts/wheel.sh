#!/bin/sh
# Builds the wheel into a folder (default: a temporary one) and checks that the linked folders are real files in it.
set -eu
cd "$(dirname "$0")/.."
out=${1:-}
if [ -z "$out" ]; then
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
fi
scratch=$(mktemp -d)
# setuptools builds in the source tree; a copy keeps build/ and egg-info out of it.
tar -c --exclude=.git --exclude=.venv --exclude=.lab --exclude=build --exclude=dist --exclude='*.egg-info' . |
    tar -x -C "$scratch"
.venv/bin/python -m pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation --no-index -w "$out" "$scratch"
rm -rf "$scratch"
.venv/bin/python scripts/check_wheel.py "$out"/understudy_homelab-*.whl
