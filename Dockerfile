# cnncodes in a container, from the release archive:
#
#   scripts/release
#   docker build --tag cnncodes .
#   docker run --rm --volume "$PWD:/work" --user "$(id -u):$(id -g)" cnncodes demo
#
# scripts/dev/bare-root runs these steps without Docker.
FROM debian:bookworm-slim
ADD dist/cnncodes-*-x86_64-linux.tar.gz /opt/
RUN ln -s /opt/cnncodes-*/bin/cnncodes /usr/local/bin/cnncodes && cnncodes --version
WORKDIR /work
ENTRYPOINT ["cnncodes"]
CMD ["--help"]
