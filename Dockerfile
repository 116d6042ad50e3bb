# The one image of producer, engine, migrate, verifier and verify; it also carries the JMX agent that Kafka and Cassandra load.
# Plain syntax: it builds with BuildKit and with the classic builder.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG DEBIAN_IMAGE=debian:bookworm-slim

# The agent's jar, whose version is in services/servers/pom.xml.
FROM ${DEBIAN_IMAGE} AS agent
# The folder of manual pages is missing in slim images, and Java's package fails without it.
RUN mkdir -p /usr/share/man/man1 \
 && apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends maven \
 && rm -rf /var/lib/apt/lists/*
COPY services/servers/pom.xml /build/pom.xml
RUN mvn --batch-mode --quiet --file /build/pom.xml --activate-profiles jmx dependency:copy-dependencies \
      -DoutputDirectory=/opt/agent -DexcludeTransitive=true -Dmdep.stripVersion=true \
 && test -s /opt/agent/jmx_prometheus_javaagent.jar

# The libraries, each with its checksum. The image's own pip fills the environment, so that none stays in it.
FROM ${PYTHON_IMAGE} AS libraries
COPY requirements.lock /build/requirements.lock
RUN python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
      --require-hashes -r /build/requirements.lock

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="dstreams" \
      org.opencontainers.image.description="Producers, engine, migrations and verify of the dstreams pipeline" \
      org.opencontainers.image.licenses="Apache-2.0"
# A volume that is empty takes over the owner of the folder that it is mounted on.
RUN groupadd --gid 10001 dstreams \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin dstreams \
 && mkdir -p /var/lib/dstreams/checkpoints /agent /drills \
 && chown -R 10001:10001 /var/lib/dstreams /agent
COPY --from=libraries /opt/venv /opt/venv
COPY --from=agent /opt/agent /opt/agent
WORKDIR /app
COPY engine engine
COPY services services
COPY tools tools
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app
# COPY keeps the modes of the clone, and under a strict umask only its owner reads that. Compiled here, as nothing can be
# written at run time: a process that starts again after a kill is quicker by that.
RUN chmod -R a+rX /app \
 && python -m compileall -q /app
USER 10001:10001
