FROM python:3.12-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/maa-assess
ENV PATH=/opt/maa-assess/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock ./
RUN pip install --require-hashes -r requirements.lock
COPY . .
RUN pip install --no-deps .

FROM python:3.12-slim-bookworm
LABEL org.opencontainers.image.title="maa-assess" \
      org.opencontainers.image.description="Assesses blood counts against published definitions of moderate aplastic anemia, as FHIR R4" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/maa-assess /opt/maa-assess
ENV PATH=/opt/maa-assess/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# A number, so that an orchestrator can tell it is not root.
USER 10001:10001
EXPOSE 8000
# uvicorn answers what it has begun, then stops.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/live', timeout=2)"]
CMD ["uvicorn", "--factory", "app.main:create_app", "--host", "0.0.0.0", "--port", "8000"]
