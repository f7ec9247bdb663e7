# Stand-in: lab/standins/standin/jellyfin.py
ARG BASE
FROM ${BASE}
COPY standins/standin/__init__.py standins/standin/__main__.py standins/standin/core.py standins/standin/durable.py standins/standin/sqlite_store.py standins/standin/jellyfin.py /opt/standins/standin/
ARG IMAGE
ENV STANDIN_IMAGE=${IMAGE} PYTHONPATH=/opt/standins PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
ENV JELLYFIN_DATA_DIR=/config JELLYFIN_CACHE_DIR=/cache
RUN mkdir -p /config /cache /media && chmod 777 /config /cache
VOLUME /config /cache
EXPOSE 8096
HEALTHCHECK --interval=30s --timeout=30s --start-period=10s CMD ["curl", "-fsS", "-o", "/dev/null", "http://localhost:8096/health"]
ENTRYPOINT ["python3", "-m", "standin", "jellyfin"]
CMD []
