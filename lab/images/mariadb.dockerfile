# The real MariaDB, Debian's version, with the official image's user, paths, variables and healthcheck.sh.
ARG BASE
FROM ${BASE}
COPY images/mariadb/docker-entrypoint.sh images/mariadb/healthcheck.sh /usr/local/bin/
COPY images/mariadb/server.cnf /etc/mysql/mariadb.conf.d/99-container.cnf
RUN userdel caddy && groupmod -g 999 mysql && usermod -u 999 -g 999 mysql && rm -rf /var/lib/mysql \
    && install -d -o mysql -g mysql /var/lib/mysql && install -d -o mysql -g mysql -m 1777 /run/mysqld
VOLUME /var/lib/mysql
EXPOSE 3306
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["mariadbd"]
