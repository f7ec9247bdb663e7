#!/bin/bash
# First start and privileges of a PostgreSQL container, by the official image's variables. The first start is made
# aside and moved into place, so that one cut short begins again; the password never reaches the server's environment.
set -eu -o pipefail

user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}

die() { echo "Error: $*" >&2; exit 1; }

password() {
    [ -z "${POSTGRES_PASSWORD:-}" ] || [ -z "${POSTGRES_PASSWORD_FILE:-}" ] \
        || die "both POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE are set (but are exclusive)"
    if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then cat "$POSTGRES_PASSWORD_FILE"; else echo "${POSTGRES_PASSWORD:-}"; fi
}

# As the server's user; reads the password from standard input.
initialise() {
    local new="$PGDATA/.first-start" auth=scram-sha-256 options=()
    [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ] || auth=trust
    read -ra options <<<"${POSTGRES_INITDB_ARGS:-}"
    rm -rf "$new"
    initdb -D "$new" --username="$user" --pwfile=<(cat) --encoding=UTF8 --locale=C.UTF-8 --no-sync \
        "${options[@]}" >/dev/null
    echo "listen_addresses = '*'" >>"$new/postgresql.conf"
    printf '\nhost all all all %s\n' "$auth" >>"$new/pg_hba.conf"
    if [ "$database" != postgres ]; then
        echo "CREATE DATABASE \"$database\"" | postgres --single -j -D "$new" postgres >/dev/null
    fi
    sync
    find "$new" -mindepth 1 -maxdepth 1 ! -name PG_VERSION -exec mv -t "$PGDATA" {} +
    mv "$new/PG_VERSION" "$PGDATA/"
    rmdir "$new"
    sync
    echo "PostgreSQL init process complete; ready for start up."
}

if [ "${1:-}" = --first-start ]; then
    initialise
    exit
fi
[ "${1:0:1}" != - ] || set -- postgres "$@"
if [ "$1" != postgres ]; then
    exec "$@"
fi

run=()
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA"
    chmod 0700 "$PGDATA"
    find "$PGDATA" ! -user postgres -exec chown postgres {} +
    run=(gosu postgres)
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    secret=$(password)
    [ -n "$secret" ] || [ "${POSTGRES_HOST_AUTH_METHOD:-}" = trust ] \
        || die "Database is uninitialized and superuser password is not specified."
    # Parts of a first start that was cut short go: nothing was ever served from them. Anything else stays.
    if [ -d "$PGDATA/.first-start" ]; then find "$PGDATA" -mindepth 1 -maxdepth 1 -exec rm -rf {} +; fi
    [ -z "$(find "$PGDATA" -mindepth 1 -maxdepth 1 ! -name lost+found)" ] \
        || die "directory \"$PGDATA\" exists but is not empty, and it has no PG_VERSION"
    "${run[@]}" "$0" --first-start <<<"$secret"
    unset secret
fi
unset POSTGRES_PASSWORD POSTGRES_PASSWORD_FILE
exec "${run[@]}" "$@"
