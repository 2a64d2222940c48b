# The web server and the indexer in one image. `docker compose up` is the short way to both.
#
# torch is pip's default build. For a smaller image, or another CUDA, name the package index that
# PyTorch's own installation page gives: docker build --build-arg TORCH_INDEX_URL=https://… .
# Everything else is checked against the hashes in docker-requirements.txt, which are of the files
# for this version of Python: `make hashes` renews them.
# The base image is named by digest: docs/contributing.md says how to renew it.
ARG PYTHON_IMAGE=python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

FROM ${PYTHON_IMAGE} AS build
ARG TORCH_INDEX_URL=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /venv
ENV PATH="/venv/bin:$PATH"
WORKDIR /src

# What changes seldom first: a change in the code repeats only the last step.
COPY constraints.txt docker-requirements.txt ./
RUN pip install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} -c constraints.txt torch setuptools
RUN pip install --require-hashes --no-deps --no-build-isolation -r docker-requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY templates templates
COPY static static
COPY indexer indexer
COPY app app
COPY neurarium neurarium
RUN pip install --no-deps --no-build-isolation .

FROM ${PYTHON_IMAGE}
RUN useradd --create-home --uid 10001 neurarium \
    && install --directory --owner=neurarium --group=neurarium /data
COPY --from=build /venv /venv
ENV PATH="/venv/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    NEURARIUM_HOST=0.0.0.0 \
    NEURARIUM_PORT=8000 \
    NEURARIUM_DATABASE_URL=sqlite:////data/neurarium.db \
    NEURARIUM_CACHE_DIR=/data/cache \
    HF_HOME=/data/huggingface
USER neurarium
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['NEURARIUM_PORT'] + '/healthz', timeout=4)"]
ENTRYPOINT ["neurarium"]
CMD ["serve"]
