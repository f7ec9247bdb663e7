#!/bin/sh
# The official image: options alone mean redis-server, root becomes redis, connections from other containers are let in.
set -eu
case ${1:-} in
    -* | *.conf) set -- redis-server "$@" ;;
esac
case $1 in
    redis-server | valkey-server) set -- "$@" --protected-mode no ;;
    *) exec "$@" ;;
esac
if [ "$(id -u)" = 0 ]; then
    find . ! -user redis -exec chown redis {} +
    exec gosu redis "$@"
fi
exec "$@"
