# Sluice as an image: only what production needs, installed by hash, run as an ordinary user on a read-only root.
#   docker build -t sluice .
FROM python:3.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv --without-pip /opt/sluice
COPY requirements/base.lock /tmp/base.lock
RUN python -m pip --python /opt/sluice/bin/python install --require-hashes --only-binary :all: -r /tmp/base.lock \
 && /opt/sluice/bin/python -m compileall -q /opt/sluice/lib

FROM python:3.13-slim-bookworm AS static
COPY --from=build /opt/sluice /opt/sluice
WORKDIR /app
COPY . .
# The key only lets the settings load; collectstatic signs nothing and the layer is thrown away.
RUN SLUICE_MODE=production SLUICE_HOME=/tmp/home \
    SLUICE_SECRET_KEY=$(head -c 60 /dev/urandom | base64 -w0) SLUICE_MASTER_KEY=$(head -c 32 /dev/urandom | base64) \
    SLUICE_PEPPER=$(head -c 32 /dev/urandom | base64) \
    /opt/sluice/bin/python manage.py collectstatic --no-input -v 0

FROM python:3.13-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin sluice \
 && python -m pip uninstall --yes pip setuptools wheel >/dev/null 2>&1 || true
ENV PATH=/opt/sluice/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 SLUICE_MODE=production SLUICE_HOME=/var/lib/sluice
COPY --from=build /opt/sluice /opt/sluice
WORKDIR /app
COPY manage.py LICENSE ./
COPY config config
COPY gateway gateway
COPY guardrails guardrails
COPY billing billing
COPY workspaces workspaces
COPY templates templates
COPY static static
COPY --from=static --chown=10001 /tmp/home/static /var/lib/sluice/static
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import sys; from config.stack.part import answers_http; sys.exit(not answers_http(8000))"]
CMD ["python", "-m", "config.stack.web", "--listen", "0.0.0.0:8000", "--drain", "60"]
