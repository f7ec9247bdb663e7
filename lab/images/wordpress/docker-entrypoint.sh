#!/bin/sh
# First start of a WordPress container: its files and a wp-config.php with keys of its own, then the given command.
set -eu
if [ "${1:-}" = apache2-foreground ]; then
    if [ ! -e wp-includes/version.php ]; then
        [ "$(stat -c %u:%g .)" != 0:0 ] || chown www-data:www-data .
        # version.php last: a copy that was cut short is made again.
        tar -C /usr/src/wordpress --exclude ./wp-includes/version.php -c . | tar -x --no-overwrite-dir
        cp -a /usr/src/wordpress/wp-includes/version.php wp-includes/version.php
        echo "Complete! WordPress has been successfully copied to $PWD" >&2
    fi
    if [ ! -s wp-config.php ]; then
        while IFS= read -r line; do
            case $line in
                *"put your unique phrase here"*)
                    key=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
                    line=${line%%put your unique phrase here*}$key${line##*put your unique phrase here} ;;
            esac
            printf '%s\n' "$line"
        done <wp-config-docker.php >wp-config.php.new
        chown www-data:www-data wp-config.php.new
        mv wp-config.php.new wp-config.php
    fi
fi
exec "$@"
