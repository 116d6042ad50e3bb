"""Kafka Streams with a standby of every store: counts by key, in RocksDB, as plain Java processes.

The program is `TakeoverStreams.java`. It is compiled by the compiler that Maven Central has as a jar, since a machine with a runtime
environment alone has no javac.

Owns: contender.
Never: a setting of the application; those are in the program.
"""

import subprocess
from pathlib import Path

from engine.errors import StreamingError
from services.settings import REPOSITORY, base_environment
from tools.bench.takeover.contender import Contender, Place, Processes
from tools.stack import jars

_SOURCE = REPOSITORY / "tools" / "bench" / "TakeoverStreams.java"
_COMPILE_SECONDS = 120
_PROFILES = ("streams", "ecj")


def contender(place: Place) -> Contender:
    """Members that are not yet started; fetches jars and compiles.

    Raises:
        ConfigurationError: java or mvn is missing.
        StreamingError: Maven failed, or the program does not compile.
    """
    jars.check_programs(place.jars_dir, _PROFILES)
    library = jars.fetch(place.jars_dir, "streams", print)
    classes = place.folder / "classes"
    _compile(jars.fetch(place.jars_dir, "ecj", print)[0], library, classes)
    path = ":".join(map(str, [classes, *library]))
    java = ("java", "-Xmx256m", "-XX:+UseSerialGC", "-cp", path, "TakeoverStreams")

    def command(member: int) -> tuple[str, ...]:
        return (*java, place.bootstrap, place.topic, str(place.folder / f"streams-{member}"))

    return Processes("streams", command, place.folder)


def _compile(compiler: Path, library: list[Path], classes: Path) -> None:
    path = ":".join(map(str, library))
    done = subprocess.run(
        [
            *("java", "-jar", str(compiler), "-source", "17", "-target", "17"),
            *("-cp", path, "-d", str(classes), str(_SOURCE)),
        ],
        env=base_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_COMPILE_SECONDS,
        check=False,
    )
    if done.returncode:
        raise StreamingError(f"{_SOURCE.name} does not compile:\n{done.stdout}{done.stderr}")
