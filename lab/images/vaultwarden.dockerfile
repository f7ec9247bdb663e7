# Stand-in: lab/standins/standin/vaultwarden.py
ARG BASE
FROM ${BASE}
COPY standins/standin/__init__.py standins/standin/__main__.py standins/standin/core.py standins/standin/durable.py standins/standin/sqlite_store.py standins/standin/vaultwarden.py /opt/standins/standin/
ARG IMAGE
ENV STANDIN_IMAGE=${IMAGE} PYTHONPATH=/opt/standins PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
ENV ROCKET_PORT=80 ROCKET_ADDRESS=0.0.0.0
VOLUME /data
EXPOSE 80
WORKDIR /
HEALTHCHECK --interval=60s --timeout=10s CMD ["curl", "-fsS", "-o", "/dev/null", "http://localhost:80/alive"]
ENTRYPOINT []
CMD ["python3", "-m", "standin", "vaultwarden"]
