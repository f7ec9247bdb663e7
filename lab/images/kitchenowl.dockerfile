# Stand-in: lab/standins/standin/kitchenowl.py
ARG BASE
FROM ${BASE}
COPY standins/standin/__init__.py standins/standin/__main__.py standins/standin/core.py standins/standin/durable.py standins/standin/sqlite_store.py standins/standin/kitchenowl.py /opt/standins/standin/
ARG IMAGE
ENV STANDIN_IMAGE=${IMAGE} PYTHONPATH=/opt/standins PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
ENV STORAGE_PATH=/data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=60s --timeout=3s CMD ["curl", "-fsS", "-o", "/dev/null", "http://localhost:8080/api/health/8M4F88S8ooi4sMbLBfkkV7ctWwgibW6V"]
ENTRYPOINT ["python3", "-m", "standin", "kitchenowl"]
CMD []
