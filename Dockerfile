# The gateway's image: a virtual environment on a slim Python, and nothing that it was built with.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
# Without pip: what cannot be installed into it cannot be installed by an intruder either.
RUN python -m venv --without-pip /opt/sms-gateway
COPY setup.cfg pyproject.toml README.md ./
COPY schemas schemas
COPY pipeline pipeline
COPY gateway gateway
RUN pip wheel --no-deps --wheel-dir /wheels . \
    # There is no compiler here: a dependency without a wheel must fail, not try to build.
    && pip --python /opt/sms-gateway install --only-binary :all: /wheels/*.whl

FROM python:3.13-slim
LABEL org.opencontainers.image.title="sms-gateway" \
      org.opencontainers.image.description="An SMS API gateway that stores each message durably on a queue"
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin gateway \
    && install --directory --owner gateway /var/lib/sms-gateway
COPY --from=build /opt/sms-gateway /opt/sms-gateway
ENV PATH=/opt/sms-gateway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Where REDIS_URL=embedded:gateway.db would lie.
WORKDIR /var/lib/sms-gateway
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# Liveness only: an orchestrator that restarts the gateway because Redis is down would make nothing better.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('SERVER_A_PORT', 8000)), timeout=2); c.request('GET', '/healthz'); assert c.getresponse().status == 200"]
ENTRYPOINT ["sms-gateway"]
CMD ["serve"]
