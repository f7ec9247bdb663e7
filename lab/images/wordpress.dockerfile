# The real WordPress on Apache and PHP, Debian's versions, with the official image's layout and variables.
ARG BASE
FROM ${BASE}
COPY images/wordpress/theme /tmp/theme
COPY images/wordpress/wp-config-docker.php /tmp/wp-config-docker.php
COPY images/wordpress/docker-entrypoint.sh images/wordpress/apache2-foreground /usr/local/bin/
RUN cp -aL /usr/share/wordpress /usr/src/wordpress \
    && rm -f /usr/src/wordpress/wp-config.php /usr/src/wordpress/.htaccess \
    && mkdir -p /usr/src/wordpress/wp-content/uploads && mv /tmp/theme /usr/src/wordpress/wp-content/themes/lab \
    && mv /tmp/wp-config-docker.php /usr/src/wordpress/ && chown -R www-data:www-data /usr/src/wordpress \
    && rm -rf /var/www/html && install -d -o www-data -g www-data -m 1777 /var/www/html && a2enmod -q rewrite expires \
    && ln -sf /dev/stdout /var/log/apache2/access.log && ln -sf /dev/stderr /var/log/apache2/error.log \
    && sed -i 's/^\(\s*\)ErrorLog .*/\1ErrorLog \/dev\/stderr/' /etc/apache2/apache2.conf /etc/apache2/sites-available/000-default.conf
VOLUME /var/www/html
WORKDIR /var/www/html
EXPOSE 80
STOPSIGNAL SIGWINCH
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["apache2-foreground"]
