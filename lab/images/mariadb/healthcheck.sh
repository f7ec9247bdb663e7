#!/bin/bash
# The two tests of the official image's healthcheck.sh that the catalogue uses: --connect and --innodb_initialized.
set -eu -o pipefail

ask() { mariadb --defaults-extra-file=/var/lib/mysql/.my-healthcheck.cnf --skip-ssl -h 127.0.0.1 -P 3306 -B -N -e "$1"; }

for test in "$@"; do
    case $test in
        --connect) ask "SELECT 1" >/dev/null ;;
        --innodb_initialized)
            ask "SELECT support FROM information_schema.engines WHERE engine = 'InnoDB'" | grep -qE '^(YES|DEFAULT|ENABLED)$'
            ;;
        *) echo "healthcheck.sh: the lab does not know $test" >&2; exit 1 ;;
    esac
done
