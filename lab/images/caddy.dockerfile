# The real Caddy, Debian's version.
ARG BASE
FROM ${BASE}
COPY images/tools/wget /usr/bin/wget
ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data
RUN mkdir -p /config/caddy /data/caddy /srv && rm -f /etc/caddy/Caddyfile
EXPOSE 80 443 443/udp 2019
WORKDIR /srv
ENTRYPOINT []
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
