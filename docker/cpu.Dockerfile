# All stages on a CPU: for the tasks of a pipeline that have no GPU, and for trying a pipeline out.
#   docker build -f docker/cpu.Dockerfile -t sskd-cpu .
# BASE is any image with Python 3.11 or newer and its venv module; give it by digest for a release.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
# An index of one's own, and the file in the base image with its certificates, for instance one with CPU builds of torch and
# torchvision; unset takes pip's.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_CERT
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY constraints.txt ./
# Versions other than those of constraints.txt, as `torch==2.14.1+cpu torchvision==0.29.1+cpu`, one word each.
ARG TORCH="torch torchvision"
RUN python3 -m venv /opt/sskd && \
    /opt/sskd/bin/pip install --constraint constraints.txt ${TORCH}
COPY . .
RUN ["/opt/sskd/bin/pip", "install", "--constraint", "constraints.txt", "."]

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sskd-cpu" \
      org.opencontainers.image.description="Stages of the sskd pipeline, without CUDA" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/sskd /opt/sskd
# Any UID may run it, with a root file system that is read-only: /tmp and /dev/shm are all that is written.
ENV PATH=/opt/sskd/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp USER=sskd XDG_CACHE_HOME=/tmp/.cache HF_HOME=/tmp/huggingface MPLCONFIGDIR=/tmp/matplotlib \
    SSKD_STATE_DIR=/tmp/sskd PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 65532:65532
# A pipeline's task starts `python3 -m components.execute`; no shell in between, so that SIGTERM reaches the stage.
ENTRYPOINT ["sskd"]
CMD ["--help"]
