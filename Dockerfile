# Both name one image: the digest holds for all architectures. To renew them:
#   docker buildx imagetools inspect python:3.13-slim-trixie
FROM python:3.13.16-slim-trixie@sha256:70729b46c69b4f1e97c4822c1af3df53a1476cf5ddc6c087c0c10bc3a5678c2f AS base

FROM base AS build
# Files of one age, and bytecode that knows none: the same sources give the same layer.
ARG SOURCE_DATE_EPOCH=0
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONHASHSEED=0
WORKDIR /src
COPY requirements-image.lock requirements-service.lock ./
RUN python3 -m venv /opt/build \
 && /opt/build/bin/pip install --no-compile --require-hashes -r requirements-image.lock \
 && python3 -m venv --without-pip /opt/maa-assess \
 && /opt/build/bin/pip --python /opt/maa-assess/bin/python install --no-compile --require-hashes -r requirements-service.lock
COPY pyproject.toml hatch_build.py README.md LICENSE NOTICE ./
COPY app app
# What is in the image, and under which licences, stands beside it.
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /tmp . \
 && /opt/build/bin/pip --python /opt/maa-assess/bin/python install --no-compile --no-deps /tmp/*.whl \
 && mkdir /opt/maa-assess/share \
 && /opt/build/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
      --output-file /opt/maa-assess/share/sbom.cdx.json /opt/maa-assess/bin/python \
 && /opt/build/bin/pip-licenses --python /opt/maa-assess/bin/python --from mixed \
      --format plain-vertical --with-license-file --with-notice-file --no-license-path \
      --output-file /opt/maa-assess/share/LICENSES \
 && /opt/maa-assess/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/maa-assess/lib \
 && find /opt/maa-assess -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +

FROM base
LABEL org.opencontainers.image.title="maa-assess" \
      org.opencontainers.image.description="Assesses blood counts against published definitions of moderate aplastic anemia, as FHIR R4" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.documentation="README.md and docs/deployment.md of the source" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13.16-slim-trixie"
# The service installs nothing; what could is taken from the base too.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3.13/ensurepip /usr/local/lib/python3.13/site-packages/pip*
COPY --from=build /opt/maa-assess /opt/maa-assess
ENV PATH=/opt/maa-assess/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# Inside, loopback cannot be reached: who may ask is decided by where the port is published, or asked
# where a setting says whose tokens are taken.
ENV MAA_INSECURE=true
# A number, so that an orchestrator can tell it is not root.
USER 10001:10001
EXPOSE 8000
# It answers what it has begun, then stops.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/live', timeout=2)"]
CMD ["maa-assess", "serve", "--host", "0.0.0.0"]
