"""The servers' jars and their metrics agent's: fetched once through services/servers/pom.xml, and again when it says other ones.

    JARS_DIR/NAME-KEY/*.jar         the jars of one profile; KEY is the start of the SHA-256 of what the pom says of it
    JARS_DIR/NAME-KEY/HASH.jsa      its classes as the JVM has laid them out once (a class data archive)

A folder gets its name when it is complete. An archive belongs to one JVM and one set of options (HASH); the JVM writes it when the
server ends, and a start with it takes a third of the time.

Owns: missing_programs, fetch, fetch_agent, archive_of.
Never: a version; those are in the pom.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

from engine.errors import ConfigurationError, StreamingError
from services.settings import REPOSITORY, base_environment

POM = REPOSITORY / "services" / "servers" / "pom.xml"
SERVERS = ("kafka", "cassandra")
AGENT = "jmx"
"""The profile of the agent that exports a server's own metrics."""

_MAVEN = "{http://maven.apache.org/POM/4.0.0}"
_JAVA_VERSION = 17
_FETCH_SECONDS = 1_200
_DEBIAN = {"java": "openjdk-17-jre-headless", "mvn": "maven"}


def missing_programs(jars_dir: Path, profiles: Sequence[str] = SERVERS) -> list[str]:
    """Which of java and mvn the profiles need and this machine lacks; mvn only counts while there are jars to fetch."""
    is_fetched = all(_jar_folder(jars_dir, profile).is_dir() for profile in profiles)
    wanted = ("java",) if is_fetched else ("java", "mvn")
    return [program for program in wanted if shutil.which(program) is None]


def packages(programs: Sequence[str]) -> str:
    """The Debian packages that have the programs.

    Example:
        >>> packages(["java", "mvn"])
        'openjdk-17-jre-headless maven'
    """
    return " ".join(_DEBIAN[program] for program in programs)


def check_programs(jars_dir: Path, profiles: Sequence[str] = SERVERS) -> None:
    """Prove that the real servers can be started on this machine.

    Args:
        jars_dir: where jars are kept.
        profiles: of the pom, whose jars are needed.

    Raises:
        ConfigurationError: java or mvn is missing, or java is of a version that Cassandra does not run on.
    """
    missing = missing_programs(jars_dir, profiles)
    if missing:
        raise ConfigurationError(
            f"STACK='processes' needs {' and '.join(missing)}, not found on PATH; install it (Debian: apt-get install {packages(missing)}) "
            "or set STACK=embedded"
        )
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    match = re.search(r'version "(?:1\.)?(\d+)', said)
    if not match or int(match[1]) != _JAVA_VERSION:
        found = match[1] if match else repr(said)
        raise ConfigurationError(
            f"STACK='processes' needs Java {_JAVA_VERSION} for Cassandra and `java` on PATH is {found}; "
            f"put Java {_JAVA_VERSION} first on PATH or set STACK=embedded"
        )


def fetch(jars_dir: Path, server: str, report: Callable[[str], None]) -> list[Path]:
    """The jars of a server in a fixed order, fetched when they are not there.

    Args:
        jars_dir: where jars are kept.
        server: kafka or cassandra, or the agent; a profile of the pom.
        report: is told when a download begins.

    Raises:
        StreamingError: Maven failed; the message has its last words.
    """
    folder = _jar_folder(jars_dir, server)
    with _one_at_a_time(jars_dir):
        if not folder.is_dir():
            report(f"{server}: fetching its jars from Maven Central (once)")
            draft = folder.with_name(f"{folder.name}.part")
            _run_maven(server, draft)
            draft.rename(folder)
    return sorted(folder.glob("*.jar"))


def fetch_agent(jars_dir: Path, report: Callable[[str], None]) -> Path:
    """The jar of the agent that exports a server's own metrics, fetched when it is not there.

    Args:
        jars_dir: where jars are kept.
        report: is told when a download begins.

    Raises:
        StreamingError: Maven failed; the message has its last words.
    """
    (jar,) = fetch(jars_dir, AGENT, report)
    return jar


def archive_of(jars_dir: Path, server: str, options: Sequence[str]) -> tuple[Path, list[str]]:
    """The class data archive for a start with these options, and the option that reads it, or else writes it at the end."""
    java = Path(shutil.which("java") or "java").resolve()
    status = java.stat()
    # Paths of one stack and its heap do not matter to an archive; collector, compiler and modules do.
    kinds = [option for option in options if option.startswith(("-XX:", "--")) and "/" not in option]
    told = repr((str(java), status.st_mtime_ns, status.st_size, kinds))
    archive = _jar_folder(jars_dir, server) / f"{hashlib.sha256(told.encode()).hexdigest()[:12]}.jsa"
    if archive.exists():
        return archive, [f"-XX:SharedArchiveFile={archive}"]
    draft = archive.with_suffix(f".{os.getpid()}.part")
    return archive, [f"-XX:ArchiveClassesAtExit={draft}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]


def _jar_folder(jars_dir: Path, server: str) -> Path:
    return jars_dir / f"{server}-{hashlib.sha256(_said_of(server).encode()).hexdigest()[:12]}"


def _said_of(profile: str) -> str:
    """What the pom says of one profile, versions filled in: a new version of one fetches that one alone."""
    root = ET.parse(POM).getroot()  # noqa: S314 - the file is the repository's own
    versions = {
        f"${{{item.tag.removeprefix(_MAVEN)}}}": item.text or ""
        for item in root.find(f"{_MAVEN}properties") or ()
    }
    (found,) = (item for item in root.iter(f"{_MAVEN}profile") if item.findtext(f"{_MAVEN}id") == profile)
    said = ET.tostring(found, encoding="unicode")
    for name, version in versions.items():
        said = said.replace(name, version)
    return said


@contextmanager
def _one_at_a_time(jars_dir: Path) -> Iterator[None]:
    """Stacks that share the folder wait for each other's downloads."""
    jars_dir.mkdir(parents=True, exist_ok=True)
    with (jars_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run_maven(server: str, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    command = ["mvn", "-q", "-B", "-f", str(POM), "-P", server, "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    if server == AGENT:
        command.append("-Dmdep.stripVersion=true")  # its name stands in the options of servers
    done = subprocess.run(
        command,
        cwd=POM.parent,
        env=base_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_FETCH_SECONDS,
        check=False,
    )
    if done.returncode or not any(folder.glob("*.jar")):
        said = (done.stdout + done.stderr).strip().splitlines()
        raise StreamingError(
            f"mvn did not fetch the jars of {server} (exit code {done.returncode}): {' '.join(said[:3]) or 'it said nothing'}"
        )
