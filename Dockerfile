# syntax=docker/dockerfile:1.7
# Two images of one wheel: `server` (API, consumer, replay, the command line) and `trainer`, which
# has torch besides. Whatever is installed is locked by hash in requirements.txt.

FROM python:3.11.14-slim-bookworm AS build
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
WORKDIR /build
COPY requirements-uv.txt requirements.txt ./
RUN pip install --no-cache-dir --require-hashes -r requirements-uv.txt && uv venv /opt/stovetop
# What only a training process imports is most of the bytes; the server's image goes without.
RUN awk '/^[a-z0-9]/ { kept = !/^(accelerate|cuda-|diffusers|nvidia-|torch|transformers|triton)/ } kept' \
        requirements.txt > server.txt \
    && uv pip install --no-cache --python /opt/stovetop --no-deps --require-hashes -r server.txt
COPY pyproject.toml README.md LICENSE ./
COPY ingest ingest
COPY trainer trainer
COPY control_api control_api
COPY migrations migrations
RUN uv build --wheel --out-dir dist --build-constraints requirements.txt --require-hashes \
    && uv pip install --no-cache --python /opt/stovetop --no-deps dist/*.whl

FROM build AS build-training
# The locked torch has CUDA in it and runs on a CPU, too. An index of your own choice may have a
# smaller one of the same version; that one is then not checked by our lock.
ARG TORCH_INDEX=""
RUN if [ -z "$TORCH_INDEX" ]; then \
        uv pip install --no-cache --python /opt/stovetop --no-deps --require-hashes -r requirements.txt; \
    else \
        awk '/^[a-z0-9]/ { kept = !/^(cuda-|nvidia-|torch=|triton)/ } kept' requirements.txt > rest.txt \
        && uv pip install --no-cache --python /opt/stovetop --no-deps --require-hashes -r rest.txt \
        && uv pip install --no-cache --python /opt/stovetop --index "$TORCH_INDEX" \
            "$(grep -o '^torch==[0-9.]*' requirements.txt)"; \
    fi

FROM python:3.11.14-slim-bookworm AS runtime
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin stovetop \
    && install -d -o stovetop -g stovetop /data
ENV PATH=/opt/stovetop/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/tmp/huggingface \
    HF_HUB_OFFLINE=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    STOVETOP_DATA=/data \
    STOVETOP_PULSE=/tmp/pulse
WORKDIR /data
USER 10001:10001
VOLUME /data
EXPOSE 7420
STOPSIGNAL SIGTERM
# Of a worker; compose.yaml has a narrower one for each service.
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s CMD ["python", "-m", "ingest.pulse", "900"]
CMD ["stovetop", "--help"]

FROM runtime AS trainer
COPY --from=build-training /opt/stovetop /opt/stovetop

FROM runtime AS server
COPY --from=build /opt/stovetop /opt/stovetop
