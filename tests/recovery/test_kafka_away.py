"""An application over Kafka when the broker is away or hard to reach, on a real broker."""

import logging
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import LocalContext, StreamingContext
from engine.batch import OffsetRange, TopicPartition
from engine.errors import StreamingError
from engine.monitoring import StreamingPage
from engine.sources.kafka import KafkaUtils, PreferConsistent, Subscribe
from services.settings import REPOSITORY
from tests.engine.sources.kafka.world import TopicWriter, eventually, numbered
from tests.recovery.kafka_world import Noted, job_over, tiles
from tests.servers import KafkaServer
from tools.chaos.lanes import ProxyProcess

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.fixture
def writer(kafka_server: KafkaServer, fresh_topic: Callable[[int], str]) -> TopicWriter:
    """Writes to a new topic with one partition."""
    return TopicWriter(kafka_server.bootstrap, fresh_topic(1))


@pytest.fixture
def proxy(kafka_server: KafkaServer) -> Iterator[ProxyProcess]:
    """A way to Kafka that can be cut and made slow."""
    script = str(REPOSITORY / "tools" / "stack" / "proxy.py")
    process = ProxyProcess([sys.executable, script, "127.0.0.1:0", kafka_server.bootstrap, "--kafka"])
    yield process
    process.close()


def texts(begin: int, end: int) -> list[str]:
    """Values that tell their number, decoded."""
    return [str(number) for number in range(begin, end)]


class TestRestart:
    """A broker that is killed and comes back."""

    @pytest.mark.parametrize("seconds", [1, 10])
    @pytest.mark.fault(
        28,
        "SIGKILL of the broker between two batches, started again 1 s and 10 s later; 60 s is a drill, HOLD=60",
    )
    def test_restart_of_the_broker_costs_nothing(
        self,
        kafka_server: KafkaServer,
        writer: TopicWriter,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        seconds: int,
    ) -> None:
        """Batches wait as long as the broker is away and then go on: every record counts once, the ranges tile the log, the lag is told."""
        noted = Noted()
        caplog.set_level(logging.WARNING)
        writer.write(numbered(0, 3_000))
        with job_over(kafka_server, writer.topic, tmp_path, noted, maxRatePerPartition=2_500) as job:
            job.run()
            kafka_server.kill()
            killed = time.monotonic()
            back = threading.Timer(seconds, kafka_server.start)
            back.start()
            job.run()
            waited = time.monotonic() - killed
            back.join()
            writer.write(numbered(3_000, 4_000))
            job.run_until(texts(0, 4_000))
            ends = dict(job.stream.node.ends)

        assert waited >= seconds
        assert [line for line in caplog.messages if kafka_server.bootstrap in line and "waiting" in line]
        # The batch that waited tells what the first one, by its cap, had left in the log.
        assert noted.behind[:2] == [3_000, 500]
        assert tiles(noted.ranges())
        assert ends == {TopicPartition(writer.topic, 0): 4_000}
        assert noted.ranges()[-1][1] == 4_000

    @pytest.mark.fault(29, "the broker is down when the application starts, and is started a second later")
    def test_kafka_away_at_the_start_is_waited_for(
        self, kafka_server: KafkaServer, writer: TopicWriter, tmp_path: Path
    ) -> None:
        """Health says that the engine is not ready while Kafka is away, names the input, and is well once a batch is committed."""
        writer.write(numbered(0, 10))
        got: list[bytes] = []
        kafka_server.kill()
        with LocalContext("local", "waiting") as context:
            ssc = StreamingContext(context, 0.2)
            ssc.checkpoint(tmp_path)
            params = {"bootstrap.servers": kafka_server.bootstrap, "auto.offset.reset": "earliest"}
            stream = KafkaUtils.createDirectStream(
                ssc, PreferConsistent(), Subscribe([writer.topic], params), decoder=bytes
            )
            stream.foreachRDD(lambda rdd: got.extend(rdd.collect()))
            page = StreamingPage(ssc, port=0).start()
            ssc.start()
            eventually(lambda: "cannot be planned yet: waiting for" in health(page)[1])
            before = health(page), list(got), ssc.awaitTerminationOrTimeout(1.0)
            kafka_server.start()
            eventually(lambda: health(page)[0] == 200)
            eventually(lambda: len(got) >= 10)
            ssc.stop()
            page.stop()

        (code, text), records, has_ended = before
        assert (code, records, has_ended) == (503, [], False), text
        assert got == numbered(0, 10)


def health(page: StreamingPage) -> tuple[int, str]:
    """What /healthz answers."""
    port = page.address.rpartition(":")[2].strip("/")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class TestNetwork:
    """The way between the engine and Kafka alone; producers reach it as before."""

    @pytest.mark.fault(
        42, "a proxy before Kafka holds every byte for 3 s in the middle of a range, then passes them"
    )
    def test_cut_way_to_kafka_is_waited_for(
        self,
        kafka_server: KafkaServer,
        writer: TopicWriter,
        proxy: ProxyProcess,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A batch behind a cut way ends when the way is there again, and every record counts once."""
        noted = Noted()
        caplog.set_level(logging.WARNING)
        writer.write(numbered(0, 1_000))
        with job_over(kafka_server, writer.topic, tmp_path, noted, bootstrap=proxy.address) as job:
            job.run()
            proxy.tell("cut")
            cut = time.monotonic()
            writer.write(numbered(1_000, 20_000))
            joined = threading.Timer(3.0, proxy.tell, ["join"])
            joined.start()
            job.run()
            waited = time.monotonic() - cut
            joined.join()
            job.run_until(texts(0, 20_000))

        assert waited >= 3
        assert [line for line in caplog.messages if proxy.address in line]
        assert tiles(noted.ranges())

    @pytest.mark.fault(
        42, "a proxy before Kafka holds every byte for 8 s under a task whose taskTimeout is 3 s"
    )
    def test_wait_for_kafka_is_no_hanging_function(
        self, kafka_server: KafkaServer, writer: TopicWriter, proxy: ProxyProcess
    ) -> None:
        """A task that reads over a way that is cut for longer than its time waits for it, and its process stays."""
        writer.write(numbered(0, 1_000))
        params = {"bootstrap.servers": proxy.address}
        ranges = [OffsetRange(writer.topic, 0, 0, 1_000), OffsetRange(writer.topic, 0, 1_000, 2_000)]
        with LocalContext("local[1]", "test", taskTimeout=3.0) as context:
            first, second = (KafkaUtils.createRDD(context, params, [part], decoder=bytes) for part in ranges)
            assert first.collect() == numbered(0, 1_000)
            before = context.executor_pids
            proxy.tell("cut")
            cut = time.monotonic()
            writer.write(numbered(1_000, 2_000))
            joined = threading.Timer(8.0, proxy.tell, ["join"])
            joined.start()
            assert second.collect() == numbered(1_000, 2_000)
            waited = time.monotonic() - cut
            joined.join()
            assert context.executor_pids == before

        assert waited >= 8

    @pytest.mark.fault(42, "a proxy before Kafka passes every byte a second late, in each direction")
    def test_slow_way_to_kafka_costs_time_only(
        self, kafka_server: KafkaServer, writer: TopicWriter, proxy: ProxyProcess, tmp_path: Path
    ) -> None:
        """With 2 s from question to answer batches go on, every record counts once, and a batch without a new client takes seconds."""
        noted = Noted()
        writer.write(numbered(0, 500))
        with job_over(kafka_server, writer.topic, tmp_path, noted, bootstrap=proxy.address) as job:
            job.run()
            proxy.tell("delay 1")
            writer.write(numbered(500, 1_000))
            began = time.monotonic()
            job.run_until(texts(0, 1_000))
            took = time.monotonic() - began
            proxy.tell("delay 0")
            writer.write(numbered(1_000, 1_500))
            job.run_until(texts(0, 1_500))

        assert 2 <= took < 20
        assert tiles(noted.ranges())

    @pytest.mark.fault(42, "a proxy before Kafka breaks connections at random, at one read in ten")
    def test_lossy_way_to_kafka_costs_no_record(
        self, kafka_server: KafkaServer, writer: TopicWriter, proxy: ProxyProcess, tmp_path: Path
    ) -> None:
        """Over a way on which connections break again and again batches go on, and every record counts once."""
        noted = Noted()
        writer.write(numbered(0, 500))
        count = 500
        with job_over(kafka_server, writer.topic, tmp_path, noted, bootstrap=proxy.address) as job:
            job.run()
            proxy.tell("reset 0.1")
            while not has_broken(proxy, 3):
                writer.write(numbered(count, count + 500))
                count += 500
                job.run()
            proxy.tell("reset 0")
            job.run_until(texts(0, count))

        assert tiles(noted.ranges())


def has_broken(proxy: ProxyProcess, connections: int) -> bool:
    """Whether the proxy has broken so many connections."""
    try:
        proxy.tell(f"resets {connections}")
    except StreamingError:
        return False
    return True
