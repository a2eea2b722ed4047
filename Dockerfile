# syntax=docker/dockerfile:1
# The server as an image: built on the Rust image, run on a slim Debian as an ordinary user.
#
#   docker build -t desireline .
#   docker run --rm -p 127.0.0.1:8000:8000 -v desireline-data:/data desireline
#
# The data folder is /data. The configuration is /etc/desireline/desireline.toml (config/docker.toml by default); single
# settings come from the environment, for example DESIRELINE__SOURCES__LATENESS=2d.

FROM rust:1.95-slim-bookworm AS build
# librdkafka and zstd are C and C++ sources inside their crates; make runs librdkafka's build.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ make perl pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
# The caches keep downloads and compiled dependencies between builds; the binary is copied out of the cached folder.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin desireline \
    && cp target/release/desireline /usr/local/bin/desireline \
    && desireline --version

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /data --shell /usr/sbin/nologin desireline \
    && install -d -o desireline -g desireline /data /imports
COPY --from=build /usr/local/bin/desireline /usr/local/bin/desireline
COPY config/docker.toml /etc/desireline/desireline.toml
COPY LICENSE /usr/share/doc/desireline/LICENSE
USER desireline
WORKDIR /data
VOLUME /data
EXPOSE 8000
# A clean end closes the last segment; the log needs no more than a few seconds for it.
STOPSIGNAL SIGTERM
# Bash speaks enough HTTP for this, so the image needs no client.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8000 && printf 'GET /ready HTTP/1.0\\r\\nHost: 127.0.0.1:8000\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["desireline"]
CMD ["serve", "--config", "/etc/desireline/desireline.toml"]
