# The real Redis, Debian's version, for images of Redis and of Valkey.
ARG BASE
FROM ${BASE}
COPY images/redis/docker-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
RUN userdel caddy && groupmod -g 999 redis && usermod -u 999 -g 999 redis && install -d -o redis -g redis /data \
    && ln -s redis-server /usr/bin/valkey-server && ln -s redis-cli /usr/bin/valkey-cli
VOLUME /data
WORKDIR /data
EXPOSE 6379
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["redis-server"]
