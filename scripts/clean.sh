#!/bin/sh
# Removes every trace of the lab and of the bootstrap. What belongs to another clone's lab stays.
set -eu
cd "$(dirname "$0")/.."

python=
for name in .venv/bin/python ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
    if "$name" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        python=$name
        break
    fi
done
if [ -n "$python" ]; then
    PYTHONDONTWRITEBYTECODE=1 "$python" -m lab.cleanup
elif [ -d .lab ]; then
    echo "clean: Python 3.11 or newer is needed to remove the lab: name one with PYTHON=/path/to/python3" >&2
    exit 1
fi
rm -rf .venv build dist ./*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
