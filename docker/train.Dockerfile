# All stages on NVIDIA GPUs, with detectron2.
#   docker build -f docker/train.Dockerfile -t sskd-train .
# BASE is any image with Python 3.11 or newer and its venv module: torch brings its CUDA libraries, the node its driver.
# BUILD_BASE has Python of the same version with its headers, a C++ compiler and git, to build detectron2.
ARG BASE=python:3.11-slim-bookworm
ARG BUILD_BASE=python:3.11-bookworm

FROM ${BASE} AS build
# An index of one's own, and the file in the base image with its certificates; unset takes pip's.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_CERT
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY constraints.txt ./
RUN python3 -m venv /opt/sskd && \
    /opt/sskd/bin/pip install --constraint constraints.txt torch torchvision
COPY . .
RUN ["/opt/sskd/bin/pip", "install", "--constraint", "constraints.txt", "."]

FROM ${BUILD_BASE} AS detectron2
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_CERT
# A commit, because there has been no release for years.
ARG DETECTRON2_REPOSITORY=https://github.com/facebookresearch/detectron2.git
ARG DETECTRON2_COMMIT=02b5c4e295e990042a714712c21dc79b731e8833
# Compute capabilities that its operators are built for.
ARG TORCH_CUDA_ARCH_LIST="8.0;8.6;8.9;9.0;10.0"
ENV FORCE_CUDA=1 CUDA_HOME=/opt/cuda PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY constraints.txt ./
# The CUDA compiler of the version that torch was built with comes from the package index, too. It lacks the name by which
# linkers look for the runtime.
RUN python3 -m venv /opt/build && \
    /opt/build/bin/pip install --constraint constraints.txt torch torchvision 'cuda-toolkit[nvcc,cccl]' \
    'setuptools<81' wheel==0.48.0 ninja==1.13.2 && \
    ln -s /opt/build/lib/python3*/site-packages/nvidia/cu[0-9]* ${CUDA_HOME} && \
    ln -s ${CUDA_HOME}/lib/libcudart.so.* ${CUDA_HOME}/lib/libcudart.so
RUN PATH=/opt/build/bin:${PATH} pip wheel --no-deps --no-build-isolation --wheel-dir /wheels \
    "detectron2 @ git+${DETECTRON2_REPOSITORY}@${DETECTRON2_COMMIT}"

FROM build AS complete
COPY --from=detectron2 /wheels /wheels
# setuptools, because detectron2 imports its pkg_resources when it runs.
RUN /opt/sskd/bin/pip install --constraint constraints.txt 'setuptools<81' /wheels/*.whl

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sskd-train" \
      org.opencontainers.image.description="Stages of the sskd pipeline on NVIDIA GPUs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=complete /opt/sskd /opt/sskd
# Any UID may run it, with a root file system that is read-only: /tmp and /dev/shm are all that is written.
ENV PATH=/opt/sskd/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp USER=sskd XDG_CACHE_HOME=/tmp/.cache HF_HOME=/tmp/huggingface MPLCONFIGDIR=/tmp/matplotlib \
    TORCHINDUCTOR_CACHE_DIR=/tmp/torchinductor SSKD_STATE_DIR=/tmp/sskd \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 65532:65532
# A pipeline's task starts `python3 -m components.execute`; no shell in between, so that SIGTERM reaches the stage.
ENTRYPOINT ["sskd"]
CMD ["--help"]
