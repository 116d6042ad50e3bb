"""The stack's files as data, and what must hold of them: each check takes the data and returns the faults as sentences.

A check never looks at a file itself: a test can hand it data with a fault in it, and so prove that it finds one.

Owns: Stack, read_stack, CHECKS.
Never: Docker.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024
LIGHT_BYTES, FULL_BYTES = 4_000_000_000, 6_000_000_000
MARGIN_MIB = 256
"""What a Java needs beside its heaps: code, threads, buffers."""

FLOATING: Mapping[str, str] = {
    "python:3.11-slim-bookworm": "its maker rebuilds it with security fixes, and all that is added to it has a checksum",
    "debian:bookworm-slim": "of it nothing but one jar comes into our image, whose version is in services/servers/pom.xml",
}
"""Images whose tag has less than three numbers, with the reason; it also stands in docs/containers.md."""

OURS = "dstreams"
LONG_RUNNING = ("kafka", "cassandra", "producer", "engine", "verifier", "prometheus", "grafana")
STATE = {
    "kafka": "/var/lib/kafka/data",
    "cassandra": "/var/lib/cassandra",
    "engine": "/var/lib/dstreams/checkpoints",
    "prometheus": "/prometheus",
    "grafana": "/var/lib/grafana",
}
"""Where each service keeps what must outlive its container."""

SCRATCH = "/tmp"  # noqa: S108  # the one of a container, where all but Java put little
"""A tmpfs in every container."""

DECLARED = {
    "kafka": ("/etc/kafka/secrets", "/mnt/shared/config"),
}
"""Volumes that an image declares beside its state: unless something is mounted there, each start leaves one behind."""

NEWER: Mapping[str, tuple[str, ...]] = {
    "service": (
        "mac_address",
        "gpus",
        "models",
        "provider",
        "post_start",
        "pre_stop",
        "use_api_socket",
        "develop",
        "credential_spec",
        "annotations",
    ),
    "healthcheck": ("start_interval",),
    "build": (
        "additional_contexts",
        "pull",
        "dockerfile_inline",
        "ssh",
        "entitlements",
        "provenance",
        "sbom",
    ),
    "network": ("mac_address", "interface_name", "gw_priority"),
}
"""Keys that Docker Engine 20.10 or its classic builder does not know."""

USES: Mapping[str, tuple[str, ...]] = {
    "migrate": ("kafka", "cassandra"),
    "producer": ("kafka", "migrate"),
    "engine": ("kafka", "cassandra", "migrate"),
    "verifier": ("kafka", "cassandra", "migrate", "engine"),
    "grafana": ("prometheus",),
    "kafka": ("agent",),
    "cassandra": ("agent",),
}
"""What each service cannot start without; Prometheus also watches what is not there yet."""

EXCUSED: Mapping[tuple[str, str], str] = {}
"""Hardening that a service does without, by service and key, with the reason; the reason also stands in docs/containers.md."""


@dataclass(frozen=True)
class Stack:
    """What the checks look at."""

    compose_text: str
    dockerfile: str
    pom: str
    version: str
    """Of the project."""

    @cached_property
    def compose(self) -> Mapping[str, Any]:
        """docker-compose.yml with the default of each variable in its place."""
        found: Mapping[str, Any] = yaml.safe_load(with_defaults(self.compose_text))
        return found

    @cached_property
    def raw(self) -> Mapping[str, Any]:
        """docker-compose.yml with its variables."""
        found: Mapping[str, Any] = yaml.safe_load(self.compose_text)
        return found

    @property
    def services(self) -> Mapping[str, Any]:
        """The services by name."""
        services: Mapping[str, Any] = self.compose["services"]
        return services

    @property
    def base_images(self) -> list[str]:
        """What our image stands on."""
        return re.findall(r"^ARG \w+_IMAGE=(\S+)", self.dockerfile, re.MULTILINE)

    def environment(self, service: str) -> dict[str, str]:
        """The variables of a service."""
        return {name: str(value) for name, value in (self.services[service].get("environment") or {}).items()}


def read_stack() -> Stack:
    """The stack of this repository."""
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    return Stack(
        (ROOT / "docker-compose.yml").read_text(),
        (ROOT / "Dockerfile").read_text(),
        (ROOT / "services/servers/pom.xml").read_text(),
        version[1],
    )


def with_defaults(text: str) -> str:
    """The text with each ${NAME:-default} replaced by its default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text).replace("$$", "$")


def is_one_shot(service: Mapping[str, Any]) -> bool:
    """Whether a service is meant to end; `verify` and such are not part of what is up."""
    return service.get("restart") == "no"


def is_up(service: Mapping[str, Any]) -> bool:
    """Whether `make up` starts a service."""
    return service.get("profiles", ["full"]) == ["full"]


def is_light(service: Mapping[str, Any]) -> bool:
    """Whether a service is part of the light stack."""
    return "profiles" not in service


def mebibytes(text: str) -> float:
    """A size such as 512m, 512M, 1g or 512MiB.

    Example:
        >>> mebibytes("1g"), mebibytes("512M"), mebibytes("128MiB")
        (1024.0, 512.0, 128.0)
    """
    match = re.fullmatch(r"(\d+)([kmg])(i?b)?", str(text).strip().lower())
    if not match:
        raise ValueError(f"{text!r} is not a size")
    return int(match[1]) * {"k": 1 / 1024, "m": 1.0, "g": 1024.0}[match[2]]


def edges(service: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a service depends on, by name."""
    found = service.get("depends_on") or {}
    return found if isinstance(found, Mapping) else {name: {} for name in found}


def mounts(service: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Source, target and whether it is read-only, of each mount."""
    found = []
    for mount in service.get("volumes") or []:
        if isinstance(mount, Mapping):
            found.append((mount["source"], mount["target"], bool(mount.get("read_only"))))
        else:
            source, target, *mode = mount.split(":")
            found.append((source, target, "ro" in ",".join(mode).split(",")))
    return found


def temporary(stack: Stack, name: str) -> dict[str, str]:
    """The options of each tmpfs of a service, by folder."""
    entries = [entry.partition(":") for entry in stack.services[name].get("tmpfs") or []]
    return {folder: options for folder, _, options in entries}


def temporary_mib(stack: Stack, name: str) -> float:
    """What a service may write into memory: its tmpfs counts against its limit."""
    return sum(_size(r"size=(\w+)", options) for options in temporary(stack, name).values())


def pins(stack: Stack) -> Iterator[str]:
    """Every image has an exact tag; Kafka and Cassandra are those of plain processes; ours has the project's version."""
    images = {name: str(service.get("image", "")) for name, service in stack.services.items()}
    images |= dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)", stack.dockerfile, re.MULTILINE))
    for name, image in images.items():
        tag = image.rpartition(":")[2] if ":" in image else ""
        if not re.fullmatch(r"v?\d+\.\d+\.\d+", tag) and image not in FLOATING:
            yield f"{name}: {image!r} is not an exact tag"
    for source in re.findall(r"^FROM (\S+)", stack.dockerfile, re.MULTILINE):
        if not source.startswith("${"):
            yield f"Dockerfile: FROM {source} is not one of the images at its head"
    for name in ("kafka", "cassandra"):
        version = re.search(rf"<version\.{name}>(.+?)<", stack.pom)
        if not version or not images[name].endswith(f":{version[1]}"):
            yield f"{name}: {images[name]} is not the version of services/servers/pom.xml"
    ours = {image for name, image in images.items() if image.startswith(f"{OURS}:")}
    if ours != {f"{OURS}:{stack.version}"}:
        yield f"our image is {sorted(ours)} and the project has version {stack.version}"


def gates(stack: Stack) -> Iterator[str]:
    """Every long-running service has a health check that asks it something, every edge waits for health or a good end, and each waits for what it uses."""
    for name, service in stack.services.items():
        if name in LONG_RUNNING and not (service.get("healthcheck") or {}).get("test"):
            yield f"{name} has no health check"
        asked = list(map(str, (service.get("healthcheck") or {}).get("test") or ()))
        if {"nc", "-z"} <= set(asked):
            yield f"{name}: its health check is content with an open port"
        if any("/metrics" in part for part in asked):
            yield f"{name}: its health check is content with a thread that serves metrics"
        for other, edge in edges(service).items():
            wanted = (
                "service_completed_successfully" if is_one_shot(stack.services[other]) else "service_healthy"
            )
            if edge.get("condition") != wanted:
                yield f"{name} -> {other} waits for {edge.get('condition')} and not for {wanted}"
        unguarded = sorted(set(USES.get(name, ())) - set(edges(service)))
        yield from (f"{name} uses {other} and does not depend on it" for other in unguarded)
    if missing := set(LONG_RUNNING) - set(stack.services):
        yield f"there is no {sorted(missing)}"


def adoption(stack: Stack) -> Iterator[str]:
    """Somebody waits for the good end of every one-shot: else `up --wait` takes that end for a failure."""
    for name, service in stack.services.items():
        waited = [
            other
            for other, rest in stack.services.items()
            if (edges(rest).get(name) or {}).get("condition") == "service_completed_successfully"
        ]
        if is_one_shot(service) and is_up(service) and not waited:
            yield f"nobody waits for {name} to end well"


def memory(stack: Stack) -> Iterator[str]:
    """Every service has a hard limit, heaps and tmpfs fit with a margin, and the profiles keep to their sums."""
    limits = {name: mebibytes(service.get("mem_limit", "0m")) for name, service in stack.services.items()}
    yield from (f"{name} has no mem_limit" for name, limit in limits.items() if not limit)
    kafka, cassandra = stack.environment("kafka"), stack.environment("cassandra")
    heaps = {
        "kafka": _size(r"-Xmx(\w+)", kafka.get("KAFKA_HEAP_OPTS", "")),
        "cassandra": _size(r"(\w+)", cassandra.get("MAX_HEAP_SIZE", ""))
        + _size(r"memtable_offheap_space=(\w+)", cassandra.get("JVM_EXTRA_OPTS", "")),
    }
    for name, heap in heaps.items():
        written = temporary_mib(stack, name)
        if not heap or heap + written + MARGIN_MIB > limits[name]:
            yield (
                f"{name}: a heap of {heap:g} MiB, a tmpfs of {written:g} MiB and {MARGIN_MIB} more "
                f"do not fit into {limits[name]:g} MiB"
            )
    if not cassandra.get("HEAP_NEWSIZE"):
        yield "cassandra: MAX_HEAP_SIZE means nothing without HEAP_NEWSIZE"
    for profile, most, chosen in (("light", LIGHT_BYTES, is_light), ("full", FULL_BYTES, is_up)):
        parts = {name: limit * MIB for name, limit in limits.items() if chosen(stack.services[name])}
        if (total := sum(parts.values())) > most:
            yield f"the limits of the {profile} stack add up to {total / 1e9:.2f} GB and not to {most / 1e9:g}"
        # The one-shots have ended before a tool can run.
        stays = sum(limit for name, limit in parts.items() if not is_one_shot(stack.services[name]))
        for name in (
            name for name, service in stack.services.items() if service.get("profiles") == ["tools"]
        ):
            if (beside := stays + limits[name] * MIB) > most:
                yield f"{name} beside the {profile} stack may use {beside / 1e9:.2f} GB and not {most / 1e9:g}"


def _size(pattern: str, text: str) -> float:
    match = re.search(pattern, text)
    return mebibytes(match[1]) if match else 0.0


def scratch(stack: Stack) -> Iterator[str]:
    """What is written beside the volumes is bounded and small, since it lies in memory; Java maps libraries from there."""
    for name, service in stack.services.items():
        if any("size=" not in options for options in temporary(stack, name).values()):
            yield f"{name}: a tmpfs without a size grows up to the limit of memory"
        limit = mebibytes(service.get("mem_limit", "0m"))
        if is_up(service) and not is_one_shot(service) and 2 * temporary_mib(stack, name) > limit:
            yield f"{name}: its tmpfs may take more than half of its {limit:g} MiB"
    for name, variable in (("kafka", "KAFKA_OPTS"), ("cassandra", "JVM_EXTRA_OPTS")):
        if "-Xlog:disable " not in stack.environment(name).get(variable, ""):
            yield f"{name}: logs of the collector fill its tmpfs"
        if "exec" not in temporary(stack, name).get(SCRATCH, "").split(","):
            yield f"{name}: Java cannot map a library from {SCRATCH}"
    if "SYSTEMLOG|ASYNCDEBUGLOG" not in str(stack.services["cassandra"].get("entrypoint")):
        yield "cassandra: its log files fill its tmpfs"
    if ("agent", "/mnt/shared/config", True) not in mounts(stack.services["kafka"]):
        yield "kafka: its log files fill its tmpfs"


def hardening(stack: Stack) -> Iterator[str]:
    """No root, no capability, no way to more rights, nothing written outside volumes and tmpfs."""
    for name, service in stack.services.items():
        wrong = {
            "user": not re.fullmatch(r"[1-9]\d*:\d+", str(service.get("user", ""))),
            "cap_drop": service.get("cap_drop") != ["ALL"],
            "cap_add": "cap_add" in service,
            "privileged": "privileged" in service,
            "security_opt": service.get("security_opt") != ["no-new-privileges:true"],
            "read_only": service.get("read_only") is not True,
            "init": service.get("init") is not True,
            "pids_limit": not service.get("pids_limit"),
        }
        yield from (
            f"{name}: {key} is {service.get(key)!r}"
            for key, is_wrong in wrong.items()
            if is_wrong and (name, key) not in EXCUSED
        )


def state(stack: Stack) -> Iterator[str]:
    """All state lies on named volumes, where the services put it, and no container leaves a nameless one behind."""
    named = stack.compose.get("volumes") or {}
    for name, folder in STATE.items():
        sources = [source for source, target, _ in mounts(stack.services[name]) if target == folder]
        if not sources or sources[0] not in named:
            yield f"{name}: {folder} is on no named volume"
    for name, folders in DECLARED.items():
        mounted = {target for _, target, _ in mounts(stack.services[name])} | set(temporary(stack, name))
        yield from (f"{name}: nothing is mounted on {folder}" for folder in folders if folder not in mounted)
    if stack.environment("kafka").get("KAFKA_LOG_DIRS") != STATE["kafka"]:
        yield "kafka: KAFKA_LOG_DIRS is not on its volume"
    if stack.environment("engine").get("DATA_DIR", "") + "/checkpoints" != STATE["engine"]:
        yield "engine: DATA_DIR is not where its volume is"
    if f"--storage.tsdb.path={STATE['prometheus']}" not in stack.services["prometheus"]["command"]:
        yield "prometheus: its storage is not on its volume"
    if (
        "mkdir -p /var/lib/dstreams/checkpoints" not in stack.dockerfile
        or "chown -R 10001" not in stack.dockerfile
    ):
        yield "Dockerfile: the checkpoint folder does not belong to the engine's user"
    if "chmod -R a+rX /app" not in stack.dockerfile:
        yield "Dockerfile: under a strict umask the image's user cannot read /app"
    if "commitlog_sync=batch" not in stack.environment("cassandra").get("JVM_EXTRA_OPTS", ""):
        yield "cassandra: without commitlog_sync=batch a kill loses acknowledged rows"


def ports(stack: Stack) -> Iterator[str]:
    """Every published port is on loopback, has a variable, and its network is one that can publish."""
    networks = stack.compose.get("networks") or {}
    for name, service in stack.raw["services"].items():
        for port in service.get("ports") or []:
            if not re.fullmatch(r"127\.0\.0\.1:\$\{\w+_PORT:-\d+\}:\d+", str(port)):
                yield f"{name}: {port} is not 127.0.0.1:${{NAME_PORT:-number}}:number"
        if service.get("ports") and all(
            (networks.get(net) or {}).get("internal") for net in service["networks"]
        ):
            yield f"{name} publishes a port, and none of its networks can"


def networks(stack: Stack) -> Iterator[str]:
    """`data` leads nowhere, the others not outward, and who is cut off it does not meet Kafka or Cassandra elsewhere."""
    found = stack.compose.get("networks") or {}
    if not (found.get("data") or {}).get("internal"):
        yield "the network data is not internal"
    for name, network in found.items():
        options = (network or {}).get("driver_opts") or {}
        if (
            not (network or {}).get("internal")
            and options.get("com.docker.network.bridge.enable_ip_masquerade") != "false"
        ):
            yield f"the network {name} has a way out"
    for name, service in stack.services.items():
        mine = service.get("networks") or []
        if not mine and service.get("network_mode") != "none":
            yield f"{name} is on the default network"
        if name not in {"kafka", "cassandra"} and "servers" in mine:
            yield f"{name} is on the network servers, so a cut of data does not cut it off from Kafka and Cassandra"


def operation(stack: Stack) -> Iterator[str]:
    """Logs are rotated, what ends is started again, and what is asked to stop has the time that it needs."""
    for name, service in stack.services.items():
        options = (service.get("logging") or {}).get("options") or {}
        if not {"max-size", "max-file"} <= set(options):
            yield f"{name}: its log grows without end"
        if name in LONG_RUNNING and service.get("restart") != "unless-stopped":
            yield f"{name}: restart is {service.get('restart')!r}"
        if name in LONG_RUNNING and not service.get("stop_grace_period"):
            yield f"{name} has no stop_grace_period"
        if "container_name" in service:
            yield f"{name}: a fixed container_name allows only one stack on a machine"
        if service.get("image", "").startswith(f"{OURS}:") and service.get("pull_policy") != "never":
            yield f"{name}: our image is in no registry, so pull_policy must be never"
    if builders := [name for name, service in stack.services.items() if "build" in service]:
        if len(builders) > 1:
            yield f"{builders} build the same image"
    else:
        yield "nobody builds our image"


def age(stack: Stack) -> Iterator[str]:
    """Nothing asks for more than Docker Engine 20.10 and its classic builder have."""
    for name, service in stack.services.items():
        parts = {"service": service, "healthcheck": service.get("healthcheck"), "build": service.get("build")}
        for kind, part in parts.items():
            used = set(NEWER[kind]) & set(part or {})
            yield from (f"{name}: {key} is newer than Docker Engine 20.10" for key in sorted(used))
        if isinstance(service.get("networks"), Mapping):
            for network in service["networks"].values():
                used = set(NEWER["network"]) & set(network or {})
                yield from (f"{name}: {key} is newer than Docker Engine 20.10" for key in sorted(used))
        if "subpath" in str(service.get("volumes")):
            yield f"{name}: subpath is ignored by Docker Engine 20.10"
    for pattern in (r"^# syntax=", r"<<-?['\"]?\w+['\"]?$", r"--link\b", r"--exclude\b", r"--parents\b"):
        if re.search(pattern, stack.dockerfile, re.MULTILINE):
            yield f"Dockerfile: {pattern} needs BuildKit"


CHECKS: tuple[Callable[[Stack], Iterator[str]], ...] = (
    pins,
    gates,
    adoption,
    memory,
    scratch,
    hardening,
    state,
    ports,
    networks,
    operation,
    age,
)
