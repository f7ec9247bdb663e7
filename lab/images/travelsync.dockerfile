# Stand-in: lab/standins/standin/travelsync.py
ARG BASE
FROM ${BASE}
COPY standins/standin/__init__.py standins/standin/__main__.py standins/standin/core.py standins/standin/durable.py standins/standin/sqlite_store.py standins/standin/travelsync.py /opt/standins/standin/
ARG IMAGE
ENV STANDIN_IMAGE=${IMAGE} PYTHONPATH=/opt/standins PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
RUN mkdir -p /app/uploads /app/temp /app/data
EXPOSE 8000
ENTRYPOINT []
CMD ["python3", "-m", "standin", "travelsync"]
