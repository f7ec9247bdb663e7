# Stand-in: lab/standins/standin/homepage.py
ARG BASE
FROM ${BASE}
COPY standins/standin/__init__.py standins/standin/__main__.py standins/standin/core.py standins/standin/durable.py standins/standin/homepage.py /opt/standins/standin/
ARG IMAGE
ENV STANDIN_IMAGE=${IMAGE} PYTHONPATH=/opt/standins PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
ENV PORT=3000
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["curl", "-fsS", "-o", "/dev/null", "http://127.0.0.1:3000/api/healthcheck"]
ENTRYPOINT []
CMD ["python3", "-m", "standin", "homepage"]
