#!/bin/sh
# Makes a clone ready to work: system packages where it may install them, a locked virtual environment, the
# project itself. Safe to run again; what is in place is not touched. `bootstrap.sh --no-system` leaves apt alone.
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "bootstrap: $*" >&2
    exit 1
}

has_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; }

apt_install() {
    echo "  system packages        installing: $*"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    if ! { apt-get update -q && apt-get install -q -y --no-install-recommends "$@"; } >"$log" 2>&1; then
        tail -n 3 "$log" >&2
        fail "apt-get could not install $* (whole log: $log)"
    fi
    rm -f "$log"
}

missing_programs() {
    # Only the lab needs Docker, and the lab needs Linux.
    [ "$(uname)" != Linux ] || command -v docker >/dev/null 2>&1 || echo docker.io
    command -v ssh >/dev/null 2>&1 || echo openssh-client
    command -v git >/dev/null 2>&1 || echo git
    if has_apt; then
        { command -v dockerd >/dev/null 2>&1 || docker version >/dev/null 2>&1; } || echo docker.io
        command -v mmdebstrap >/dev/null 2>&1 || echo mmdebstrap
        command -v mkfs.ext4 >/dev/null 2>&1 || [ -x /sbin/mkfs.ext4 ] || echo e2fsprogs # disks of the lab
        command -v nft >/dev/null 2>&1 || [ -x /usr/sbin/nft ] || echo nftables # firewalls in network namespaces
        command -v ip >/dev/null 2>&1 || echo iproute2
        [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || echo debian-archive-keyring
        [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
    fi
}

ensure_system() {
    missing=$(missing_programs | sort -u | tr '\n' ' ')
    [ -z "$missing" ] && return 0
    # shellcheck disable=SC2086
    if has_apt; then
        apt_install $missing
        # From Debian 13 on, the docker command is a package of its own.
        command -v docker >/dev/null 2>&1 || apt_install docker-cli
    else
        fail "missing: ${missing}(install Docker, ssh and git with your package manager, or run this as root on Debian or Ubuntu)"
    fi
}

# A name on PATH may be a shim that has nothing behind it, so each candidate must run.
find_python() {
    for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14; do
        if "$name" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            echo "$name"
            return 0
        fi
    done
    return 1
}

ensure_python() {
    if ! python=$(find_python); then
        has_apt || fail "Python 3.11 or newer is missing: install it, or name one with PYTHON=/path/to/python3"
        apt_install python3 python3-venv
        python=$(find_python) || fail "this system's Python is older than 3.11: name a newer one with PYTHON=/path/to/python3"
    fi
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        has_apt || fail "$python has no venv module: install the package python3-venv"
        version=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        apt_install "$version"
    fi
}

stamp() {
    { cat requirements/dev.txt pyproject.toml scripts/bootstrap.sh; "$python" -V; pwd; } |
        "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])'
}

# pip install, silent unless it fails: then its last lines and the given sentence.
quietly() {
    sentence=$1
    shift
    if ! .venv/bin/python -m pip install -q --disable-pip-version-check "$@" >.venv/pip.log 2>&1; then
        tail -n 5 .venv/pip.log >&2
        fail "$sentence"
    fi
}

ensure_venv() {
    want=$(stamp)
    if [ -x .venv/bin/understudy ] && [ "$(cat .venv/stamp 2>/dev/null)" = "$want" ] && .venv/bin/python -c pass; then
        return 0
    fi
    echo "  environment            installing into .venv"
    rm -rf .venv
    "$python" -m venv .venv
    quietly "the locked Python packages could not be installed: is a package index reachable?" \
        --require-hashes -r requirements/dev.txt
    quietly "the project could not be installed into .venv" --no-deps --no-build-isolation --no-index -e .
    echo "$want" >.venv/stamp
}

# The backup program, new enough: quick where it is there or apt can unpack it, else the tests get it when they start.
ensure_restic() {
    said=$(.venv/bin/python -m lab.tools 2>&1) || echo "  restic                 later: $said"
}

[ "${1:-}" = --no-system ] || ensure_system
ensure_python
ensure_venv
ensure_restic
