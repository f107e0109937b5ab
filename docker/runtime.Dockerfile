# The ONNX predictor: `sskd predict`, `sskd doctor` and MLflow's server of registered versions, without torch.
#   docker build -f docker/runtime.Dockerfile -t sskd-runtime .
# BASE is any image with Python 3.11 or newer and its venv module; give it by digest for a release.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
# An index of one's own, and the file in the base image with its certificates; unset takes pip's.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_CERT
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY constraints.txt docker/runtime.txt ./
RUN python3 -m venv /opt/sskd && \
    /opt/sskd/bin/pip install --constraint constraints.txt --requirement runtime.txt
COPY . .
RUN ["/opt/sskd/bin/pip", "install", "--constraint", "constraints.txt", "--no-deps", "."]

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sskd-runtime" \
      org.opencontainers.image.description="Torch-free ONNX predictor of sskd students" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/sskd /opt/sskd
# Any UID may run it, with a root file system that is read-only: /tmp is all that is written.
ENV PATH=/opt/sskd/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp USER=sskd XDG_CACHE_HOME=/tmp/.cache SSKD_STATE_DIR=/tmp/sskd \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 65532:65532
# No shell in between, so that SIGTERM reaches the command.
ENTRYPOINT ["sskd"]
CMD ["--help"]
