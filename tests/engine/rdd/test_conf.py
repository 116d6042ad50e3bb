"""SparkConf, and contexts that are made as PySpark's are; the setters against PySpark itself."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyspark
import pytest

from engine import LocalContext, SparkConf, StreamingContext
from engine.errors import ConfigurationError
from engine.rdd.conf import SYSTEM_PROPERTIES

SETTERS: dict[str, Callable[[Any], Any]] = {
    "set": lambda conf: conf.set("spark.x", 1),
    "setMaster": lambda conf: conf.setMaster("local"),
    "setAppName": lambda conf: conf.setAppName("x"),
    "setSparkHome": lambda conf: conf.setSparkHome("/opt/spark"),
    "setAll": lambda conf: conf.setAll([("spark.x", "1"), ("spark.y", True)]),
    "setIfMissing": lambda conf: (
        conf.set("spark.x", "1").setIfMissing("spark.x", "2").setIfMissing("spark.y", "3")
    ),
    "setExecutorEnv": lambda conf: conf.setExecutorEnv("A", "1"),
    "setExecutorEnv pairs": lambda conf: conf.setExecutorEnv(pairs=[("A", "1"), ("B", "2")]),
}


@pytest.mark.parametrize("name", SETTERS)
def test_setters_do_as_those_of_pyspark(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setter keeps what PySpark's keeps, and gives the object itself."""
    monkeypatch.setattr(pyspark.SparkContext, "_jvm", None)
    theirs, ours = pyspark.SparkConf(loadDefaults=False), SparkConf(loadDefaults=False)

    assert SETTERS[name](theirs) is theirs
    assert SETTERS[name](ours) is ours
    assert ours.getAll() == theirs.getAll()
    assert [ours.contains(key) for key in ("spark.x", "spark.z")] == [
        theirs.contains(key) for key in ("spark.x", "spark.z")
    ]
    assert [ours.get("spark.x"), ours.get("spark.z"), ours.get("spark.z", "d")] == [
        theirs.get("spark.x"),
        theirs.get("spark.z"),
        theirs.get("spark.z", "d"),
    ]


def test_debug_string_has_a_line_a_key() -> None:
    """The printable form has every key with its value, by key."""
    conf = SparkConf(loadDefaults=False).setMaster("local").setAppName("x")

    assert conf.toDebugString() == "spark.app.name=x\nspark.master=local"


def test_conf_begins_with_the_system_properties(monkeypatch: pytest.MonkeyPatch) -> None:
    """The properties that were set for the process are in a new conf, unless it is told to load none."""
    monkeypatch.setitem(SYSTEM_PROPERTIES, "spark.x", "")
    LocalContext.setSystemProperty("spark.x", "1")

    assert SparkConf().get("spark.x") == "1"
    assert not SparkConf(loadDefaults=False).contains("spark.x")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda conf: conf.set("spark.x", None),
        lambda conf: conf.set(None, "x"),
        lambda conf: conf.setExecutorEnv(),
        lambda conf: conf.setExecutorEnv("A", "1", [("B", "2")]),
    ],
)
def test_impossible_settings_are_refused(wrong: Callable[[SparkConf], object]) -> None:
    """A key or value that is none, and variables in both forms or neither, are refused."""
    with pytest.raises(ConfigurationError, match="give"):
        wrong(SparkConf())


@pytest.mark.parametrize("kind", [SparkConf, pyspark.SparkConf])
def test_contexts_are_made_of_a_conf(kind: Any) -> None:
    """A conf, ours or PySpark's, gives master and name; what is given beside it counts more."""
    conf = kind(loadDefaults=False).setMaster("local").setAppName("of the conf").setSparkHome("/opt/spark")
    with LocalContext(conf=conf) as sc:
        assert (sc.master, sc.appName) == ("local", "of the conf")
        assert sc.getConf().get("spark.home") == "/opt/spark"
    with LocalContext(None, "given", conf=conf) as sc:
        assert (sc.master, sc.appName) == ("local", "given")


def test_get_or_create_takes_the_conf_of_pyspark(monkeypatch: pytest.MonkeyPatch) -> None:
    """GetOrCreate makes a context of a conf of either kind."""
    monkeypatch.setattr(LocalContext, "_newest", None)
    conf: Any = pyspark.SparkConf(loadDefaults=False).setMaster("local").setAppName("z")
    with LocalContext.getOrCreate(conf) as sc:
        assert (sc.master, sc.appName) == ("local", "z")


def test_conf_of_a_context_is_a_copy() -> None:
    """Neither the conf that a context was made of nor the one that it gives changes it."""
    conf = SparkConf().setMaster("local").set("spark.x", "1")
    with LocalContext(conf=conf) as sc:
        conf.set("spark.x", "2")
        sc.getConf().set("spark.x", "3")

        assert sc.getConf().get("spark.x") == "1"


@pytest.mark.slow
def test_executors_have_their_environment(tmp_path: Path) -> None:
    """Variables and modules reach every executor, also one that takes the place of another; the driver's environment stays."""
    (tmp_path / "shipped_with_the_conf.py").write_text("value = 7")
    conf = SparkConf().setMaster("local[1]").setExecutorEnv("FROM_CONF", "1")
    path = str(tmp_path / "shipped_with_the_conf.py")
    with LocalContext(environment={"GIVEN": 2}, pyFiles=[path], conf=conf) as sc:

        def seen(_: int) -> tuple[str | None, ...]:
            module = __import__("shipped_with_the_conf")
            return (os.environ.get("FROM_CONF"), os.environ.get("GIVEN"), str(module.value))

        assert sc.parallelize([0], 1).map(seen).collect() == [("1", "2", "7")]
        sc._replace(sc._executors[0])
        assert sc.parallelize([0], 1).map(seen).collect() == [("1", "2", "7")]
    assert "FROM_CONF" not in os.environ


def test_folder_and_memory_come_from_the_conf(tmp_path: Path) -> None:
    """Spark.local.dir is the temporary folder, with file: before it too, and spark.python.worker.memory the memory."""
    conf = SparkConf().setMaster("local").set("spark.local.dir", f"file:{tmp_path},/elsewhere")
    with LocalContext(conf=conf.set("spark.python.worker.memory", "1g")) as sc:
        assert [path.name for path in tmp_path.iterdir()] == [f"dstreams-{os.getuid()}"]
        assert sc._memory_bytes == 2**30


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"gateway": object()}, "gateway=<object .* needs the Spark backend"),
        ({"jsc": object()}, "jsc=<object .* needs the Spark backend"),
        ({"profiler_cls": object}, "profiler_cls=.* needs the Spark backend"),
        ({"conf": 5}, "conf is 5; give a SparkConf"),
        ({"environment": {"A": "1"}}, "environment is .'A'. and master local runs tasks in this process"),
        ({"master": 5}, r"master is 5; use local, local\[N\]"),
        ({"temporaryFolder": "hdfs://name/x"}, "hdfs://name/x needs the Spark backend"),
        (
            {"conf": {"spark.python.worker.memory": "512"}},
            "spark.python.worker.memory is '512'; give a number and a unit",
        ),
        ({"conf": {"spark.python.worker.memory": "1k"}}, "memory is 0 MB; give a number of at least 1"),
    ],
)
def test_what_cannot_be_served_is_refused(given: dict[str, Any], words: str) -> None:
    """What a context cannot serve is refused in a sentence when it is made."""
    with pytest.raises(ConfigurationError, match=words):
        LocalContext(**given)


def test_pysparks_arguments_are_taken() -> None:
    """The arguments of a SparkContext that change no result are taken by name."""
    with LocalContext("local", "x", "/opt/spark", batchSize=10, serializer=object()) as sc:
        assert sc.getConf().get("spark.home") == "/opt/spark"


def test_keys_that_nothing_reads_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """A key of Spark Streaming that has an argument in its place is told when the context of the streams is made."""
    conf = SparkConf().setMaster("local").set("spark.streaming.blockInterval", "50ms")
    with LocalContext(conf=conf) as sc, caplog.at_level(logging.WARNING):
        StreamingContext(sc, 1)

    assert "spark.streaming.blockInterval of the conf: nothing reads it" in caplog.text
