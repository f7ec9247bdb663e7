# Stand-in: lab/standins/standin/uptime_kuma.py
ARG BASE
FROM ${BASE}
COPY standins/standin/__init__.py standins/standin/__main__.py standins/standin/core.py standins/standin/durable.py standins/standin/sqlite_store.py standins/standin/uptime_kuma.py /opt/standins/standin/
ARG IMAGE
ENV STANDIN_IMAGE=${IMAGE} PYTHONPATH=/opt/standins PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
VOLUME ["/app/data"]
EXPOSE 3001
HEALTHCHECK --interval=60s --timeout=30s --start-period=180s --retries=5 CMD ["curl", "-fsS", "-o", "/dev/null", "http://localhost:3001/api/entry-page"]
ENTRYPOINT []
CMD ["python3", "-m", "standin", "uptime_kuma"]
