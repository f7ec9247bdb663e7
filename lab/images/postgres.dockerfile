# The real PostgreSQL, Debian's version, with the official image's user, paths and variables.
ARG BASE
FROM ${BASE}
COPY images/postgres/docker-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
RUN userdel caddy && groupmod -g 999 postgres && usermod -u 999 -g 999 postgres \
    && install -d -o postgres -g postgres -m 3777 /var/run/postgresql \
    && install -d -o postgres -g postgres -m 1777 /var/lib/postgresql/data \
    && chown postgres:postgres /var/lib/postgresql
ENV PGDATA=/var/lib/postgresql/data PATH=/usr/lib/postgresql/17/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
EXPOSE 5432
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
