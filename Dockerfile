# syntax=docker/dockerfile:1
# Two stages: the toolchain stays behind, the server runs as a user without rights.
FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked --package meterd && cp target/release/meterd /meterd

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/meterd --create-home meterd
COPY --from=build /meterd /usr/local/bin/meterd
USER meterd
VOLUME /var/lib/meterd
EXPOSE 8181
STOPSIGNAL SIGTERM
ENTRYPOINT ["meterd"]
CMD ["serve", "--data", "/var/lib/meterd", "--listen", "0.0.0.0:8181"]
