# The real nginx, Debian's version, with the official image's configuration layout.
ARG BASE
FROM ${BASE}
COPY images/tools/wget /usr/bin/wget
COPY images/nginx/nginx.conf /etc/nginx/nginx.conf
RUN rm -rf /etc/nginx/sites-enabled /etc/nginx/conf.d/* && mkdir -p /etc/nginx/conf.d
EXPOSE 80
STOPSIGNAL SIGQUIT
ENTRYPOINT []
CMD ["nginx", "-g", "daemon off;"]
