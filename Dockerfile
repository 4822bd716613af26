FROM python:3.13-slim AS build
RUN pip install --no-cache-dir "uv>=0.13,<0.14"
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never \
    UV_PROJECT_ENVIRONMENT=/app
WORKDIR /build
COPY pyproject.toml uv.lock ./
RUN uv sync --locked --no-dev --no-install-project --no-cache
COPY README.md LICENSE ./
COPY migrations migrations
COPY service service
RUN uv sync --locked --no-dev --no-editable --no-cache

FROM python:3.13-slim
COPY --from=build /app /app
# A number, so that Kubernetes' runAsNonRoot can tell. Nothing but /data (and /tmp) is written to.
RUN install -d -o 10001 -g 10001 -m 0700 /data
ENV PATH=/app/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    EVERTURN_HOST=0.0.0.0 \
    EVERTURN_PORT=8000 \
    EVERTURN_DATA_DIR=/data \
    EVERTURN_LOG_FORMAT=json
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['EVERTURN_PORT'] + '/health/ready', timeout=4)"]
CMD ["everturn", "serve"]
