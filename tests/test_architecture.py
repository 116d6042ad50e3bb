"""The shape of the code: layers, quarantines, budgets, docstrings. Standard library only; nothing is imported, all is parsed."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from statistics import median, quantiles

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("engine", "services", "tools")

LAYERS: tuple[tuple[str, str], ...] = (
    ("the errors", "engine.errors"),
    (
        "foundations: nothing of ours but the errors below them",
        """engine.clock engine.version engine.reports engine.spelling engine.rdd.api engine.rdd.fuse engine.rdd.plan engine.rdd.structs
        engine.storage engine.rdd.paths engine.rdd.pipe
        engine.checkpoint.files engine.sources.decoders engine.sources.elements engine.spark.failures""",
    ),
    (
        "values, formats and functions",
        """engine.batch engine.failpoints engine.metrics engine.rdd.operators engine.rdd.partitioner engine.rdd.serializers
        engine.checkpoint.journal engine.monitoring.collectors engine.sinks.api engine.sinks.flight
        engine.sources.log_format engine.rdd.backends engine.rdd.reading""",
    ),
    ("the actions of an RDD, Hadoop's files", "engine.rdd.actions engine.rdd.sequence"),
    (
        "what RDDs and contexts offer without an exchange",
        "engine.rdd.elements engine.rdd.numbers engine.rdd.sampling engine.rdd.saving engine.rdd.surface",
    ),
    ("what tasks keep on disk", "engine.rdd.scratch"),
    ("what tasks exchange", "engine.rdd.shuffle"),
    ("groups and order", "engine.rdd.grouping engine.rdd.sorting"),
    (
        "contracts of the rooms",
        """engine.rdd.functions engine.rdd.task engine.checkpoint.records engine.dstream.signatures engine.scheduler.generator
        engine.scheduler.listener engine.sinks.rules engine.sources.api engine.sources.log_writer engine.sources.kafka_client
        engine.sources.kafka_records
        engine.spark.exchange""",
    ),
    ("the task that runs, what it shares with the driver", "engine.rdd.running engine.rdd.shared"),
    ("where an RDD's elements come from, what surrounds its jobs", "engine.rdd.lineage engine.rdd.ambient"),
    ("operations by key, checkpoints", "engine.rdd.bykey engine.rdd.keeping"),
    ("operations over all partitions", "engine.rdd.rearranging"),
    (
        "the parts of the backend, the sources and the sinks",
        """engine.rdd.executor engine.rdd.local engine.checkpoint.codec engine.dstream.run engine.dstream.statespec engine.dstream.timers engine.monitoring.table engine.monitoring.entries
        engine.sinks.cql engine.sinks.sqlite engine.sources.kafka_params engine.sources.kafka_reader
        engine.sources.kafka_watch engine.sources.kafka_strategies engine.sources.log""",
    ),
    (
        "the backend and the shards",
        """engine.rdd.context engine.checkpoint.shards engine.checkpoint.sizes engine.monitoring.metrics engine.monitoring.history
        engine.sinks.cassandra engine.sources.kafka_source""",
    ),
    ("the checkpoint and what tasks do with state", "engine.checkpoint.checkpoint engine.dstream.state"),
    ("how jobs come to the shards of state", "engine.dstream.access"),
    (
        "the nodes, and what tasks do with timed state",
        "engine.checkpoint.volatile engine.dstream.nodes engine.dstream.mapstate",
    ),
    (
        "the nodes of keyed state, shards on Spark",
        "engine.dstream.keyed engine.dstream.windowed engine.spark.access",
    ),
    ("Spark", "engine.spark.backend"),
    ("what groups of operations stand on", "engine.dstream.handle"),
    (
        "the groups of a stream's operations",
        "engine.dstream.pairs engine.dstream.windows engine.dstream.stateful engine.dstream.outputs",
    ),
    (
        "the graph and the handle",
        "engine.dstream.dstream engine.dstream.graph engine.sinks.output engine.sources.blocks engine.sources.portions",
    ),
    (
        "inputs on the block log",
        "engine.sources.files engine.sources.queues engine.sources.receiver",
    ),
    ("receivers of ours", "engine.sources.sockets"),
    ("what makes streams of sources", "engine.inputs"),
    ("what the scheduler notes", "engine.scheduler.accounting engine.monitoring.page"),
    ("what it tells", "engine.scheduler.telling"),
    ("the scheduler", "engine.scheduler.scheduler"),
    ("the context", "engine.context"),
    ("the front door", "engine engine.testing engine.sources.direct"),
    ("Kafka's stream", "engine.sources.kafka_stream"),
    ("sources that users name, the streaming page", "engine.sources.kafka engine.monitoring.server"),
    ("the observers' front door", "engine.monitoring"),
    (
        "services: values and settings",
        """services.settings services.migrations services.pipeline.campaigns services.pipeline.records
        services.producer.events services.producer.schedule services.cassandra.session""",
    ),
    (
        "services: their parts",
        """services.topics services.cassandra.migrate services.sqlite.migrate services.producer.feed
        services.producer.kafka_sink services.producer.log_sink services.pipeline.jobs.campaign_windows
        services.pipeline.jobs.page_totals services.pipeline.jobs.trending_pages""",
    ),
    ("services: what measures them", "services.producer.metrics"),
    (
        "services: their processes",
        "services.migrate services.pipeline.main services.producer.main services.producer.poison",
    ),
    (
        "tools: values",
        "tools.stack.events tools.stack.processes tools.stack.folder tools.verify.schema tools.verify.drills tools.stack.proxy",
    ),
    (
        "tools: verdict, programs, jars",
        "tools.verify.verdict tools.verify.metrics tools.stack.programs tools.stack.jars tools.stack.spark",
    ),
    (
        "tools: one server, one process, one batch",
        "tools.verify.ledger tools.stack.control tools.stack.servers tools.stack.monitors tools.stack.supervisor tools.stack.ready tools.stack.verbs tools.stack.docker",
    ),
    (
        "tools: logs, stores, truth",
        "tools.verify.embedded_log tools.verify.kafka_log tools.verify.stores tools.verify.truth tools.stack.status",
    ),
    (
        "tools: judges and the stack",
        "tools.verify.cassandra_store tools.verify.judge tools.verify.producers tools.stack.api tools.progress",
    ),
    ("tools: the proof", "tools.verify.proof tools.stack.cli tools.stack.compose"),
    ("tools: verify's front door", "tools.verify"),
    (
        "tools: drills, loops and benches",
        "tools.parity.functions tools.parity.shown tools.chaos.scene tools.chaos.lanes tools.chaos.volume tools.chaos.choice tools.killloop.phases tools.bench.loop tools.bench.fixed tools.bench.state tools.demo.choice tools.demo.watch",
    ),
    (
        "tools: their parts",
        "tools.parity.programs tools.killloop.backlog tools.killloop.victim tools.bench.metrics tools.bench.rdd tools.bench.yahoo tools.demo.view tools.chaos.hits tools.chaos.history",
    ),
    (
        "tools: the loop",
        "tools.api.inventory tools.parity.compare tools.parity.engine_side tools.parity.pyspark_side tools.killloop.loop tools.chaos.faults",
    ),
    ("tools: its report", "tools.api.rows tools.killloop.report tools.chaos.drill"),
    (
        "commands",
        """tools.api.__main__ tools.parity.__main__ tools.verify.__main__ tools.verify.watch tools.stack.__main__ tools.chaos.__main__ tools.killloop.__main__ tools.bench.__main__
        tools.demo.__main__""",
    ),
)
"""(what a layer is, its modules), the lowest first: a module imports modules of lower layers only."""

WALLS = (
    ("engine", r"services|tools", "the library knows neither the pipeline nor its tools"),
    ("services", r"tools", "a service runs without the tools"),
    (
        "engine.scheduler",
        r"engine\.(sources|sinks|rdd\.(local|context|executor))",
        "it never sees a source, sink or backend",
    ),
    (
        "engine.dstream",
        r"engine\.(sources|sinks|scheduler|rdd\.(local|context|executor))",
        "it speaks the RDD protocol only",
    ),
    ("engine.rdd", r"engine\.(dstream|checkpoint|scheduler|sources|sinks)", "the backend knows no streams"),
    ("engine.checkpoint", r"engine\.(dstream|scheduler|sources|sinks)", "the volume knows no streams"),
    (
        "engine",
        r"engine\.(monitoring|sinks\.(cassandra|sqlite))",
        "observers and stores hang on; the engine does not know them",
    ),
    ("tools.verify", r"engine|tools\.stack", "the judge shares nothing with the judged"),
    (
        "services.pipeline.jobs",
        r"engine\.(rdd|checkpoint|scheduler|context|sinks\.(?!api))|services\.(?!pipeline\.)",
        "a job is written against the front door",
    ),
)
"""(room, what it must not import, why). A room's own modules are free."""

THIRD_PARTY = {
    "aiohttp": r"engine\.monitoring\.server",
    "cassandra": r"engine\.sinks\.cassandra|services\.cassandra\..*|tools\.verify\.cassandra_store",
    "click": r"services\..*|tools\..*",
    "cloudpickle": r"engine\.rdd\.structs",
    "confluent_kafka": r"engine\.sources\.kafka\w*|services\.producer\.kafka_sink|services\.topics|tools\.bench\..*",
    "kafka": r"tools\.verify\.kafka_log",
    "msgspec": r"engine\.checkpoint\..*|engine\.rdd\.structs|engine\.sources\..*|services\..*|tools\.bench\..*",
    "pickle": r"engine\.rdd\.serializers",
    "prometheus_client": r"engine\.metrics|engine\.monitoring\.(metrics|collectors|server)|services\.producer\.metrics|tools\.bench\.metrics|tools\.progress|tools\.verify\.(metrics|watch)",
    "psutil": r"tools\..*",
    "pydantic": r"services\.settings",
    "pydantic_settings": r"services\.settings",
    "py4j": r"engine\.spark\..*",
    "pyspark": r"engine\.spark\..*|tools\.(api\.inventory|bench\.rdd|parity\.pyspark_side)",
    "rich": r"tools\..*",
    "sqlite3": r"engine\.sinks\.sqlite|services\.sqlite\..*|tools\.verify\..*",
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
    "engine.sources.kafka_client",
    "engine.sources.receiver",
    "engine.sources.sockets",
    "services.producer.feed",
}

PARTS_OF_DSTREAM = {
    f"engine.dstream.{part}" for part in ("handle", "pairs", "windows", "stateful", "outputs")
}
"""The classes that DStream is put together from: they name it in annotations, and nothing else does such a thing."""

MODULE_LINES = 500
FUNCTION_LINES = 60
TESTS_WITHOUT_LIMIT = {"test_architecture.py"}


# Reading.


@cache
def modules() -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    """The parsed file."""
    return ast.parse(path.read_text())


def is_package_marker(name: str) -> bool:
    """Whether a module is an `__init__.py` with nothing but its docstring."""
    return modules()[name].name == "__init__.py" and len(tree(modules()[name]).body) <= 1


def for_annotations(module: ast.Module) -> set[ast.AST]:
    """What stands under `if TYPE_CHECKING`."""
    blocks = [
        node for node in module.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return {inner for block in blocks for inner in ast.walk(block)}


def imports(name: str) -> Iterator[str]:
    """What a module imports: modules of ours by their own name, others by their full name."""
    unseen = for_annotations(tree(modules()[name])) if name in PARTS_OF_DSTREAM else set()
    for node in ast.walk(tree(modules()[name])):
        if node in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in modules() else node.module


@cache
def edges() -> dict[str, set[str]]:
    """By module the modules of ours that it imports."""
    return {name: {other for other in imports(name) if other in modules()} - {name} for name in modules()}


@cache
def layer_of() -> dict[str, int]:
    """By module the number of its layer."""
    return {name: level for level, (_, names) in enumerate(LAYERS) for name in names.split()}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of a file, nested ones too."""
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, its docstring left out: prose has no budget."""
    text = ast.get_docstring(node, clean=False)
    return (
        (node.end_lineno or node.lineno) - node.lineno + 1 - (text.count("\n") + 1 if text is not None else 0)
    )


def calls(path: Path) -> Iterator[str]:
    """The dotted ends of everything that a file calls: `time.sleep` of `time.sleep(1)`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ".".join(ast.unparse(node.func).split(".")[-2:])


def attributes(path: Path) -> Iterator[str]:
    """Every attribute that a file names, such as `os.environ`."""
    return (ast.unparse(node) for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute))


def public(
    node: ast.Module | ast.ClassDef, prefix: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Public functions and classes of a module, with the methods of its public classes."""
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            yield prefix + child.name, child
            if isinstance(child, ast.ClassDef):
                yield from public(child, f"{child.name}.")


def files_of_tests() -> list[Path]:
    """Every file under tests."""
    return sorted((ROOT / "tests").rglob("*.py"))


def written_tests(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The tests of a file."""
    return [
        node for node in functions(path) if node.name.startswith("test_") and path.name.startswith("test_")
    ]


@cache
def tracked() -> list[Path]:
    """The files that git tracks, and those that it would."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in listed if (ROOT / name).is_file()]


# Layers.


def test_layer_table_names_every_module() -> None:
    """Each module of engine, services and tools stands in the layer table once, and the table names no other."""
    named = [name for _, names in LAYERS for name in names.split()]
    there = {name for name in modules() if not is_package_marker(name)}

    assert sorted(there - set(named)) == []
    assert sorted(set(named) - there) == []
    assert sorted({name for name in named if named.count(name) > 1}) == []


def test_modules_import_lower_layers_only() -> None:
    """Every import leads to a lower layer."""
    wrong = [
        f"{name} (layer {level}) imports {other} (layer {layer_of()[other]})"
        for name, level in layer_of().items()
        for other in edges().get(name, ())
        if other in layer_of() and layer_of()[other] >= level
    ]

    assert wrong == []


def test_rooms_keep_their_walls() -> None:
    """No room imports what its wall shuts out."""
    wrong = []
    for room, forbidden, why in WALLS:
        for name in modules():
            if name == room or name.startswith(f"{room}."):
                for other in edges()[name]:
                    is_own = room != "engine" and (other == room or other.startswith(f"{room}."))
                    if (
                        not is_own
                        and re.match(rf"(?:{forbidden})(?:\.|$)", other)
                        and not _is_same_room(name, other)
                    ):
                        wrong.append(f"{name} imports {other}: {why}")

    assert wrong == []


def _is_same_room(name: str, other: str) -> bool:
    is_front_door = name != "engine" and name == other.rpartition(".")[0]
    return is_front_door or (name.rpartition(".")[0] == other.rpartition(".")[0] and name.count(".") > 1)


def test_imports_have_no_cycle() -> None:
    """The imports between modules of ours form no cycle."""
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(edges()[name]):
                visit(other, (*path, name))
            done.add(name)

    for name in modules():
        visit(name, ())
    assert done == set(modules())


def test_imports_stand_at_the_top() -> None:
    """No function of engine, services, tools or tests imports anything."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in [*modules().values(), *files_of_tests()]
        for function in functions(path)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]

    assert wrong == []


# Quarantines.


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
    """Only the scheduler, the executor's watch, the streaming page, the end of a lost client and the producer's senders do."""
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


# Budgets.


def test_budgets_are_kept(figures: Callable[[str], None]) -> None:
    """No module is longer than 500 lines, no function than 60 beside its docstring, and the medians stay small."""
    lines = {
        name: len(path.read_text().splitlines())
        for name, path in modules().items()
        if not is_package_marker(name)
    }
    lengths = {
        f"{name}.{node.name}:{node.lineno}": length(node)
        for name, path in modules().items()
        for node in functions(path)
    }
    for label, counts in (("module lines", lines), ("function lines", lengths)):
        spread, longest = list(counts.values()), max(counts, key=lambda name: counts[name])
        p90 = quantiles(spread, n=10)[-1]
        figures(
            f"{label}: {len(spread)} of them, median {median(spread):.0f}, p90 {p90:.0f}, max {counts[longest]} ({longest})"
        )

    assert {name: count for name, count in lines.items() if count > MODULE_LINES} == {}
    assert {name: count for name, count in lengths.items() if count > FUNCTION_LINES} == {}
    assert median(lengths.values()) <= 8
    assert quantiles(lengths.values(), n=10)[-1] <= 25


def test_test_files_are_short() -> None:
    """No test file is longer than twice a module's budget."""
    long = {
        path.name: count
        for path in files_of_tests()
        if (count := len(path.read_text().splitlines())) > 2 * MODULE_LINES
        and path.name not in TESTS_WITHOUT_LIMIT
    }

    assert long == {}


# Docstrings.


def test_modules_say_what_they_own() -> None:
    """Every module of the engine begins with a sentence and says what it owns and never does."""
    wrong = []
    for name, path in modules().items():
        if name.startswith("engine.") and not is_package_marker(name):
            text = ast.get_docstring(tree(path)) or ""
            if not (re.match(r".+[.:]\n", text + "\n") and "\nOwns: " in text and "Never: " in text):
                wrong.append(name)

    assert wrong == []


def test_public_names_have_docstrings() -> None:
    """Every public function, class and method of the engine has a docstring whose first line is a sentence."""
    wrong = [
        f"{name}.{label}"
        for name, path in modules().items()
        if name.startswith("engine")
        for label, node in public(tree(path))
        if not re.match(r"[^\n]*[.:](\n|$)", _joined(ast.get_docstring(node) or ""))
    ]

    assert wrong == []


def _joined(text: str) -> str:
    """The docstring with its first paragraph on one line."""
    first, gap, rest = text.partition("\n\n")
    return " ".join(first.split()) + gap + rest


def test_operators_have_their_sections() -> None:
    """Every public operator of DStream, in whichever of its parts, tells its elements and shows an example."""
    parts = [
        node
        for name in PARTS_OF_DSTREAM | {"engine.dstream.dstream"}
        for node in tree(modules()[name]).body
        if isinstance(node, ast.ClassDef)
    ]
    operators = [node for part in parts for _, node in public(part) if isinstance(node, ast.FunctionDef)]
    wrong = [
        f"{node.name}: {section}"
        for node in operators
        for section in ("Elements:", "Example:")
        if f"\n{section}" not in (ast.get_docstring(node) or "")
    ]

    assert len(operators) > 40
    assert wrong == []


def test_docstrings_and_comments_keep_their_share(figures: Callable[[str], None]) -> None:
    """A fifth to a half of the engine's lines are docstrings, those of fields too; few are comments: why, unit, invariant."""
    paths = [path for name, path in modules().items() if name.startswith("engine")]
    lines = [line for path in paths for line in path.read_text().splitlines() if line.strip()]
    prose = sum(
        sum(bool(line.strip()) for line in node.value.value.splitlines())
        for path in paths
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
    comments = sum(line.strip().startswith("#") for line in lines)
    tests = [test for path in files_of_tests() for test in written_tests(path)]
    figures(
        f"engine: {len(lines)} lines, docstrings {prose / len(lines):.0%}, comments {comments / len(lines):.1%}"
    )
    figures(f"tests: {len(tests)}, one for each {len(lines) / max(len(tests), 1):.0f} lines of the engine")

    assert 0.2 <= prose / len(lines) <= 0.5
    assert comments / len(lines) <= 0.08


# Names.


@pytest.mark.parametrize("package", [name for name in modules() if modules()[name].name == "__init__.py"])
def test_front_doors_list_their_names(package: str) -> None:
    """`__all__` is sorted and holds every public name that a package brings in."""
    body = tree(modules()[package]).body
    listed = [
        ast.literal_eval(node.value)
        for node in body
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == "__all__" for target in node.targets)
    ]
    brought = {
        alias.asname or alias.name
        for node in body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert (listed[0] if listed else []) == sorted(brought)


# Tests.


def test_tests_state_a_fact() -> None:
    """Every test has a docstring of one sentence."""
    wrong = []
    for path in files_of_tests():
        for node in written_tests(path):
            text = " ".join((ast.get_docstring(node) or "").split())
            if not text.endswith(".") or re.search(r"[.!?] [A-Z]", text):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {text!r}")

    assert wrong == []


def test_tests_neither_sleep_nor_mock() -> None:
    """No test waits for a time and none replaces a part by a mock."""
    wrong = []
    for path in files_of_tests():
        names = {
            alias.name
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        sources = {node.module for node in ast.walk(tree(path)) if isinstance(node, ast.ImportFrom)}
        if "time.sleep" in set(calls(path)) or "sleep" in names:
            wrong.append(f"{path.relative_to(ROOT)} sleeps")
        if any("mock" in (name or "").lower() for name in names | sources):
            wrong.append(f"{path.relative_to(ROOT)} mocks")

    assert wrong == []
