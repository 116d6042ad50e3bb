"""The rooms of the code: layers, walls, imports. Standard library only; nothing is imported, all is parsed."""

import ast
import re
from functools import cache

from tests.parsed import ROOT, edges, files_of_tests, functions, is_package_marker, modules

LAYERS: tuple[tuple[str, str], ...] = (
    ("the errors", "engine.errors"),
    ("where tests make everything else fail", "engine.failpoints"),
    (
        "foundations: nothing of ours but the errors below them",
        """engine.clock engine.version engine.reports engine.spelling engine.rdd.api engine.rdd.driver engine.rdd.fuse engine.rdd.plan engine.rdd.structs
        engine.storage engine.rdd.paths engine.rdd.pipe
        engine.scheduler.turn engine.checkpoint.declared engine.checkpoint.files engine.sources.decoders engine.sources.elements engine.spark.failures""",
    ),
    (
        "values, formats and functions",
        """engine.cluster.child engine.cluster.membership engine.cluster.sharing engine.cluster.units engine.batch engine.metrics engine.rdd.jobs engine.rdd.captures engine.rdd.operators engine.rdd.partitioner engine.rdd.serializers
        engine.checkpoint.journal engine.checkpoint.names engine.monitoring.collectors engine.monitoring.serving engine.sinks.api engine.sinks.flight
        engine.sources.log_format engine.rdd.backends engine.rdd.conf engine.rdd.reading engine.dstream.policy engine.dstream.steps
        engine.waits""",
    ),
    ("what runs units, who holds them", "engine.cluster.replica engine.cluster.faust"),
    ("the actions of an RDD, Hadoop's files", "engine.rdd.actions engine.rdd.sequence"),
    (
        "what RDDs and contexts offer without an exchange",
        "engine.rdd.elements engine.rdd.numbers engine.rdd.sampling engine.rdd.saving engine.rdd.surface",
    ),
    (
        "what tasks keep on disk, and how functions and elements travel to them",
        "engine.rdd.scratch engine.rdd.shipped",
    ),
    ("what tasks exchange", "engine.rdd.shuffle"),
    ("groups and order", "engine.rdd.grouping engine.rdd.sorting"),
    ("what listeners are told", "engine.scheduler.events"),
    (
        "contracts of the rooms",
        """engine.rdd.functions engine.rdd.task engine.checkpoint.records engine.dstream.backfill engine.dstream.signatures engine.scheduler.generator engine.scheduler.rate engine.sources.limits
        engine.scheduler.listener engine.sinks.rules engine.sources.api engine.sources.log_writer engine.sources.kafka.client
        engine.sources.kafka.records
        engine.spark.exchange""",
    ),
    ("the task that runs, what it shares with the driver", "engine.rdd.running engine.rdd.shared"),
    ("where an RDD's elements come from, what surrounds its jobs", "engine.rdd.lineage engine.rdd.ambient"),
    ("operations by key, checkpoints", "engine.rdd.bykey engine.rdd.keeping"),
    ("operations over all partitions", "engine.rdd.rearranging"),
    (
        "the parts of the backend, the sources and the sinks",
        """engine.rdd.executor engine.rdd.local engine.checkpoint.codec engine.checkpoint.due engine.checkpoint.meta engine.checkpoint.upgrade engine.dstream.run engine.dstream.statespec engine.dstream.timers engine.monitoring.table engine.monitoring.entries
        engine.sinks.cql engine.sinks.sqlite engine.sources.kafka.params engine.sources.kafka.reader
        engine.sources.kafka.watch engine.sources.kafka.strategies engine.sources.log""",
    ),
    (
        "the backend and the shards",
        """engine.rdd.context engine.checkpoint.shards engine.checkpoint.sizes engine.monitoring.metrics engine.monitoring.history
        engine.sinks.cassandra engine.sources.kafka.source""",
    ),
    ("the checkpoint and what tasks do with state", "engine.checkpoint.checkpoint engine.dstream.state"),
    ("how jobs come to the shards of state", "engine.dstream.access"),
    (
        "the nodes, and what tasks do with timed state",
        "engine.checkpoint.volatile engine.dstream.nodes engine.dstream.mapstate",
    ),
    (
        "the nodes of keyed state, shards on Spark",
        "engine.dstream.aside engine.dstream.keyed engine.dstream.windowed engine.sources.accounts engine.sources.continuity engine.spark.access engine.spark.pickling",
    ),
    ("Spark", "engine.spark.backend engine.spark.daemon"),
    ("what groups of operations stand on", "engine.dstream.handle"),
    (
        "the groups of a stream's operations",
        "engine.dstream.pairs engine.dstream.windows engine.dstream.stateful engine.dstream.outputs",
    ),
    (
        "the graph and the handle",
        "engine.dstream.dstream engine.dstream.graph engine.sinks.output engine.sources.blocks engine.sources.portions",
    ),
    ("what runs a receiver", "engine.sources.supervisor"),
    (
        "inputs on the block log",
        "engine.sources.files engine.sources.queues engine.sources.receiver",
    ),
    ("receivers of ours", "engine.sources.sockets"),
    ("what makes streams of sources", "engine.inputs"),
    (
        "what the scheduler notes, what it runs again",
        "engine.scheduler.accounting engine.scheduler.retries engine.monitoring.page",
    ),
    ("what it tells", "engine.scheduler.telling"),
    ("the scheduler", "engine.scheduler.scheduler"),
    ("what is set on a context before its start", "engine.preparation"),
    ("the context", "engine.context"),
    ("the front door", "engine engine.testing engine.sources.direct"),
    ("Kafka's stream", "engine.sources.kafka.stream"),
    ("what makes it", "engine.sources.kafka.create"),
    ("sources that users name, the streaming page", "engine.sources.kafka engine.monitoring.server"),
    ("the observers' front door", "engine.monitoring"),
    (
        "services: values and settings",
        """services.health services.settings services.migrations services.pipeline.campaigns services.pipeline.records
        services.pipeline.child services.producer.events services.producer.schedule services.cassandra.session""",
    ),
    (
        "services: their parts",
        """services.topics services.pipeline.backfill services.cassandra.migrate services.sqlite.migrate services.producer.feed
        services.producer.kafka_sink services.producer.log_sink services.pipeline.jobs.campaign_windows
        services.pipeline.jobs.page_totals services.pipeline.jobs.trending_pages""",
    ),
    (
        "services: what measures them, what replicas share",
        "services.pipeline.control services.pipeline.told services.pipeline.units services.producer.metrics",
    ),
    ("services: who had what", "services.pipeline.owners"),
    ("services: what a replica shows", "services.pipeline.web"),
    (
        "services: their processes",
        "services.migrate services.pipeline.main services.pipeline.replica services.producer.main services.producer.poison",
    ),
    ("services: the engine, one or several", "services.pipeline.__main__"),
    (
        "tools: values",
        "tools.stack.engines tools.stack.events tools.stack.processes tools.stack.folder tools.verify.schema tools.verify.drills tools.verify.pulse tools.stack.proxy",
    ),
    (
        "tools: verdict, programs, jars",
        "tools.verify.verdict tools.verify.facts tools.verify.metrics tools.stack.programs tools.stack.jars tools.stack.spark tools.stack.revision",
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
        "tools.verify.cassandra_store tools.verify.producers tools.verify.readers tools.stack.api tools.progress tools.numbers tools.chaos.page",
    ),
    ("tools: the log, batch by batch", "tools.verify.judge tools.verify.replay"),
    ("tools: the proof", "tools.verify.proof tools.stack.cli tools.stack.compose"),
    ("tools: verify's front door", "tools.verify"),
    (
        "tools: drills, loops and benches",
        "tools.enginectl.client tools.replay.letters tools.replay.topics tools.parity.functions tools.parity.shown tools.chaos.scene tools.chaos.lanes tools.chaos.volume tools.chaos.choice tools.chaos.showing tools.killloop.phases tools.bench.loop tools.bench.fixed tools.bench.state tools.bench.restarts tools.checkpoint.folder tools.demo.choice tools.demo.watch tools.cluster.simulation tools.bench.takeover.contender tools.bench.takeover.feeder",
    ),
    (
        "tools: their parts",
        "tools.enginectl.changes tools.parity.programs tools.killloop.backlog tools.killloop.victim tools.checkpoint.copying tools.bench.recovery tools.bench.restart_engine tools.bench.restart_spark tools.bench.metrics tools.bench.rdd tools.bench.takeover.librdkafka tools.bench.takeover.measuring tools.bench.takeover.streams tools.bench.yahoo tools.demo.view tools.chaos.hits tools.chaos.history",
    ),
    (
        "tools: the loop",
        "tools.bench.takeover.replicas tools.bench.durability tools.checkpoint.ledger tools.enginectl.shown tools.api.inventory tools.api.keys tools.api.signatures tools.parity.compare tools.parity.engine_side tools.parity.pyspark_side tools.killloop.loop tools.chaos.lives tools.chaos.replicas tools.chaos.spoilt tools.chaos.report tools.faults.cases tools.faults.scan",
    ),
    ("tools: its report", "tools.enginectl.cli tools.api.rows tools.killloop.kept tools.chaos.faults"),
    ("tools: one drill, all kills", "tools.killloop.report tools.chaos.drill"),
    (
        "tools: many drills",
        "tools.chaos.soak tools.chaos.demos.counters tools.chaos.demos.no_checkpoint tools.chaos.demos.processing_time",
    ),
    (
        "commands",
        """tools.chaos.demos.__main__ tools.api.__main__ tools.checkpoint.__main__ tools.enginectl.__main__ tools.faults.__main__ tools.parity.__main__ tools.verify.__main__ tools.replay.__main__ tools.verify.watch tools.stack.__main__ tools.chaos.__main__ tools.killloop.__main__ tools.bench.__main__ tools.bench.takeover.__main__ tools.bench.sharing
        tools.cluster.__main__ tools.demo.__main__""",
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


@cache
def layer_of() -> dict[str, int]:
    """By module the number of its layer."""
    return {name: level for level, (_, names) in enumerate(LAYERS) for name in names.split()}


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
