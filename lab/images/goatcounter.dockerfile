# Stand-in: lab/standins/standin/goatcounter.py
ARG BASE
FROM ${BASE}
COPY standins/standin/__init__.py standins/standin/__main__.py standins/standin/core.py standins/standin/durable.py standins/standin/sqlite_store.py standins/standin/goatcounter.py /opt/standins/standin/
ARG IMAGE
ENV STANDIN_IMAGE=${IMAGE} PYTHONPATH=/opt/standins PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY images/tools/wget /usr/bin/wget
RUN groupadd -g 1000 goatcounter && useradd -u 1000 -g 1000 -m goatcounter \
    && install -d -o goatcounter -g goatcounter /home/goatcounter/goatcounter-data
EXPOSE 80 443 8080
WORKDIR /home/goatcounter
USER goatcounter:goatcounter
VOLUME ["/home/goatcounter/goatcounter-data"]
ENTRYPOINT ["python3", "-m", "standin", "goatcounter"]
CMD ["serve", "-automigrate"]
