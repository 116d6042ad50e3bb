"""What stands in few places only: libraries, clocks, threads, the environment, pickles, exception classes; and what stands nowhere."""

import ast
import re
import sys

from tests.parsed import PACKAGES, ROOT, attributes, calls, imports, modules, tracked, tree

THIRD_PARTY = {
    "aiohttp": r"engine\.monitoring\.(server|serving)|services\.pipeline\.web",
    "aiokafka": r"engine\.cluster\.faust",
    "cassandra": r"engine\.sinks\.cassandra|services\.cassandra\..*|tools\.verify\.cassandra_store",
    "click": r"services\..*|tools\..*",
    "cloudpickle": r"engine\.rdd\.structs",
    "confluent_kafka": r"engine\.sources\.kafka\.\w+|services\.producer\.kafka_sink|services\.topics|tools\.bench\..*",
    "faust": r"engine\.cluster\.faust",
    "kafka": r"tools\.verify\.kafka_log|tools\.replay\.topics",
    "msgspec": r"engine\.cluster\.(faust|units)|engine\.checkpoint\..*|engine\.rdd\.structs|engine\.sources\..*|services\..*|tools\.(bench|enginectl)\..*",
    "pickle": r"engine\.rdd\.serializers",
    "prometheus_client": r"engine\.metrics|engine\.monitoring\.(metrics|collectors|server)|services\.health|services\.pipeline\.web|tools\.bench\.metrics|tools\.progress|tools\.verify\.(metrics|watch)",
    "psutil": r"tools\..*",
    "pydantic": r"services\.settings",
    "pydantic_settings": r"services\.settings",
    "py4j": r"engine\.spark\..*",
    "pyspark": r"engine\.spark\..*|tools\.(api\.inventory|bench\.rdd|bench\.restart_spark|parity\.pyspark_side)",
    "rich": r"tools\..*",
    "sqlite3": r"engine\.sinks\.sqlite|services\.sqlite\..*|tools\.(chaos|verify)\..*",
    "subprocess": r"engine\.rdd\.(executor|pipe)|tools\..*",
    "xxhash": r"engine\.checkpoint\.files|engine\.rdd\.partitioner|engine\.sources\.log_format|services\.producer\.events|tools\.verify\..*",
}
"""Which modules may import a library; what is not here and not in the standard library may be imported nowhere."""

CLOCKS = {
    "time.time",
    "time.time_ns",
    "time.monotonic",
    "time.perf_counter",
    "time.sleep",
    "datetime.now",
    "datetime.utcnow",
    "date.today",
}
CLOCK_MODULES = {
    "engine.clock",
    "engine.failpoints",
    # When a migration was applied, and how long a producer waits for its broker: neither reaches a result.
    "services.sqlite.migrate",
    "services.cassandra.migrate",
    "services.producer.kafka_sink",
}
ENVIRONMENT_MODULES = {"services.settings", "engine.failpoints", "engine.rdd.executor"}
THREAD_MODULES = {
    "engine.monitoring.server",
    "engine.rdd.executor",
    "engine.scheduler.scheduler",
    "engine.sources.kafka.client",
    "engine.sources.sockets",
    "engine.sources.supervisor",
    "services.health",
    "services.producer.feed",
}


def test_libraries_stay_in_their_modules() -> None:
    """Each library is imported only by the modules that may, and unknown libraries by none."""
    ours = {*PACKAGES, "tests"}
    wrong = []
    for name in modules():
        for other in imports(name):
            top = other.split(".")[0]
            allowed = THIRD_PARTY.get(top, "" if top not in sys.stdlib_module_names else ".*")
            if top not in ours and not re.fullmatch(allowed, name):
                wrong.append(f"{name} imports {top}")

    assert wrong == []


def test_clocks_are_read_in_one_place() -> None:
    """Only the clock's module and the fail points read a clock or wait for one."""
    wrong = [
        f"{name} calls {call}"
        for name, path in modules().items()
        if not name.startswith("tools.") and name not in CLOCK_MODULES
        for call in calls(path)
        if call in CLOCKS
    ]

    assert wrong == []


def test_environment_is_read_in_one_place() -> None:
    """Only the settings, the fail points and the start of executors look at the environment."""
    readers = {
        name for name, path in modules().items() if {"os.environ", "os.getenv"} & set(attributes(path))
    }

    assert {name for name in readers if not name.startswith("tools.")} <= ENVIRONMENT_MODULES


def test_threads_are_started_in_few_places() -> None:
    """Only the scheduler, the executor's watch, the streaming page, the end of a lost client, the services' metrics and the producer's senders do."""
    starters = {
        name
        for name, path in modules().items()
        if {"threading.Thread", "Thread", "ThreadPoolExecutor", "futures.ThreadPoolExecutor"}
        & set(calls(path))
    }

    assert {name for name in starters if not name.startswith("tools.")} <= THREAD_MODULES


def test_pickles_are_read_in_executors_only() -> None:
    """Nothing outside the RDD layer reads a pickle."""
    readers = {
        name
        for name, path in modules().items()
        if {"pickle.load", "pickle.loads", "cloudpickle.load", "cloudpickle.loads", "pickle.Unpickler"}
        & set(calls(path))
    }

    assert {name for name in readers if not name.startswith("engine.rdd.")} == set()


def test_exception_classes_stand_in_one_tree() -> None:
    """The engine's and the services' exception classes are defined in `engine/errors.py`, the fail points' own aside."""
    definers = {
        name
        for name, path in modules().items()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
        and any(re.search(r"(Error|Exception)$", ast.unparse(base)) for base in node.bases)
    }

    assert {name for name in definers if not name.startswith("tools.")} == {
        "engine.errors",
        "engine.failpoints",
    }


def test_schemas_are_never_dropped() -> None:
    """No migration, and no statement in the code, drops or truncates anything."""
    schemas = [path for path in tracked() if path.suffix in {".cql", ".sql"}]
    statement = re.compile(r"\b(DROP|TRUNCATE)\s+(TABLE|KEYSPACE|COLUMN|INDEX|TYPE)", re.IGNORECASE)
    wrong = [
        str(path.relative_to(ROOT))
        for path in [*schemas, *modules().values()]
        if statement.search(path.read_text())
    ]

    assert schemas
    assert wrong == []


def test_files_name_no_machine() -> None:
    """No tracked file names a folder of one machine or the host of a package registry."""
    hosts = (
        "pypi" + r"\.org",
        "python" + "hosted",
        "repo1" + r"\.maven",
        "npm" + "js",
        "/wo" + "rk/",
        "/home/" + r"\w",
        "/ro" + "ot/",
    )
    named = re.compile("|".join(hosts))
    wrong = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        wrong += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
            for number, line in enumerate(text.splitlines(), start=1)
            if named.search(line)
        ]

    assert wrong == []
