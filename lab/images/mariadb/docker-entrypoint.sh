#!/bin/bash
# First start and privileges of a MariaDB container, by the official image's variables. The first start is made
# aside and moved into place, so that one cut short begins again; no password reaches the server's environment.
set -eu -o pipefail
data=/var/lib/mysql

die() { echo "[ERROR] [Entrypoint]: $*" >&2; exit 1; }

# value NAME: the variable MARIADB_NAME or MYSQL_NAME, or the content of the file either NAME_FILE names.
value() {
    local prefix name
    for prefix in MARIADB MYSQL; do
        name=${prefix}_$1
        if [ -n "${!name:-}" ]; then echo "${!name}"; return; fi
        name=${name}_FILE
        if [ -n "${!name:-}" ]; then cat "${!name}"; return; fi
    done
}

quoted() { local text=${1//\\/\\\\}; echo "'${text//\'/\\\'}'"; }

# The statements of the first start, one a line as --bootstrap wants them; the healthcheck's own user as in the official image.
statements() {
    local root=$1 database=$2 user=$3 password=$4 check=$5 host
    echo "FLUSH PRIVILEGES;"
    echo "ALTER USER root@localhost IDENTIFIED BY $(quoted "$root");"
    echo "DELETE FROM mysql.global_priv WHERE host NOT IN ('localhost') OR user NOT IN ('root', 'mariadb.sys');"
    echo "FLUSH PRIVILEGES;"
    echo "CREATE USER root@'%' IDENTIFIED BY $(quoted "$root");"
    echo "GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;"
    for host in localhost 127.0.0.1 ::1; do
        echo "CREATE USER healthcheck@'$host' IDENTIFIED BY '$check';"
    done
    [ -z "$database" ] || echo "CREATE DATABASE IF NOT EXISTS \`$database\`;"
    [ -z "$user" ] || echo "CREATE USER $(quoted "$user")@'%' IDENTIFIED BY $(quoted "$password");"
    [ -z "$user" ] || [ -z "$database" ] || echo "GRANT ALL ON \`$database\`.* TO $(quoted "$user")@'%';"
}

# As the server's user; reads the statements from standard input, $1 is the healthcheck's password.
initialise() {
    local new="$data/.first-start"
    rm -rf "$new"
    mariadb-install-db --datadir="$new" --auth-root-authentication-method=normal --skip-test-db \
        --skip-name-resolve --innodb-flush-log-at-trx-commit=0 >/dev/null
    mariadbd --datadir="$new" --bootstrap --skip-log-error 2>"$new/log" || { cat "$new/log" >&2; exit 1; }
    rm "$new/log"
    (umask 077 && printf '[mariadb-client]\nport=3306\nuser=healthcheck\npassword=%s\n' "$1" >"$new/.my-healthcheck.cnf")
    sync
    find "$new" -mindepth 1 -maxdepth 1 ! -name mysql -exec mv -t "$data" {} +
    mv "$new/mysql" "$data/"
    rmdir "$new"
    sync
    echo "[Note] [Entrypoint]: MariaDB init process done. Ready for start up."
}

if [ "${1:-}" = --first-start ]; then
    initialise "$2"
    exit
fi
[ "${1:0:1}" != - ] || set -- mariadbd "$@"
if [ "$1" != mariadbd ] && [ "$1" != mysqld ]; then
    exec "$@"
fi

run=()
if [ "$(id -u)" = 0 ]; then
    find "$data" ! -user mysql -exec chown mysql: {} +
    run=(gosu mysql)
fi
if [ ! -d "$data/mysql" ]; then
    root=$(value ROOT_PASSWORD) database=$(value DATABASE) user=$(value USER) password=$(value PASSWORD)
    if [ -n "${MARIADB_RANDOM_ROOT_PASSWORD:-}" ]; then root=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n'); fi
    [ -n "$root" ] || [ -n "${MARIADB_ALLOW_EMPTY_ROOT_PASSWORD:-}" ] \
        || die "Database is uninitialized and password option is not specified"
    [ -z "$user" ] || [ -n "$password" ] || die "MARIADB_USER is given without MARIADB_PASSWORD"
    check=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    # Parts of a first start that was cut short go: nothing was ever served from them. Anything else stays.
    if [ -d "$data/.first-start" ]; then find "$data" -mindepth 1 -maxdepth 1 -exec rm -rf {} +; fi
    [ -z "$(find "$data" -mindepth 1 -maxdepth 1 ! -name lost+found)" ] \
        || die "$data is not empty although the system tables are missing"
    statements "$root" "$database" "$user" "$password" "$check" | "${run[@]}" "$0" --first-start "$check"
    unset root password check
fi
unset MARIADB_PASSWORD MARIADB_ROOT_PASSWORD MYSQL_PASSWORD MYSQL_ROOT_PASSWORD
exec "${run[@]}" "$@"
