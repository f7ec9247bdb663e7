# Stand-in: lab/standins/standin/nextcloud.py
ARG BASE
FROM ${BASE}
COPY standins/standin/__init__.py standins/standin/__main__.py standins/standin/core.py standins/standin/durable.py standins/standin/nextcloud.py standins/standin/nextcloud_store.py standins/standin/php_config.py standins/standin/occ.py /opt/standins/standin/
ARG IMAGE
ENV STANDIN_IMAGE=${IMAGE} PYTHONPATH=/opt/standins PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Hooks call `php occ`; the PHP of the base knows nothing of it.
COPY images/nextcloud/php /usr/local/bin/php
RUN mkdir -p /var/www/html && rm -rf /var/www/html/* && chown www-data:www-data /var/www/html
VOLUME /var/www/html
EXPOSE 80
WORKDIR /var/www/html
STOPSIGNAL SIGWINCH
ENTRYPOINT ["python3", "-m", "standin", "nextcloud"]
