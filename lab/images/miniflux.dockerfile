# The real Miniflux, Debian's version.
ARG BASE
FROM ${BASE}
ENV LISTEN_ADDR=0.0.0.0:8080
EXPOSE 8080
USER 65534
ENTRYPOINT []
CMD ["/usr/bin/miniflux"]
