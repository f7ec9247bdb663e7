# Stand-in: lab/standins/standin/portainer.py
ARG BASE
FROM ${BASE}
COPY standins/standin/__init__.py standins/standin/__main__.py standins/standin/core.py standins/standin/durable.py standins/standin/portainer.py /opt/standins/standin/
ARG IMAGE
ENV STANDIN_IMAGE=${IMAGE} PYTHONPATH=/opt/standins PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /
VOLUME /data
EXPOSE 9000 9443 8000
ENTRYPOINT ["python3", "-m", "standin", "portainer"]
CMD []
