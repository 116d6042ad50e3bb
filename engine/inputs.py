"""The streams that a context makes: of queues, receivers, sockets and files, and of several streams.

Owns: InputStreams.
Never: a batch; each method makes a node.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO

from engine.dstream.dstream import DStream
from engine.dstream.graph import DStreamGraph
from engine.dstream.nodes import TransformedDStream
from engine.dstream.signatures import of_rdds, refuse_uncallable
from engine.errors import ConfigurationError
from engine.rdd.api import RDD
from engine.sources.files import FileInputDStream, Filter, LinesOf, RecordsOf, WholeFiles, is_visible
from engine.sources.queues import Queue, QueueInputDStream
from engine.sources.receiver import Receiver, ReceiverInputDStream
from engine.sources.sockets import MAX_FRAME_BYTES, RawSocketReceiver, SocketReceiver, text_lines
from engine.sources.supervisor import ReceiverSettings
from engine.storage import StorageLevel


class InputStreams:
    """The part of StreamingContext that makes streams."""

    graph: DStreamGraph
    _receivers: ReceiverSettings

    def queueStream(self, rdds: Queue, oneAtATime: bool = True, default: Any | None = None) -> DStream[Any]:
        """A stream of the items in a queue, each a list of elements or an RDD; items that come later are seen.

        A batch's `numRecords` counts the elements, and an item as one record that has none or is an RDD without a checkpoint folder.

        Elements: Queue[list[T] | RDD[T]] -> DStream[T].
        Replay: with a checkpoint folder an item is in the block log before a batch is made of it, and the batch has it again after a
            crash. After a restart, a list that holds the same items again goes on behind those that were taken, and an empty one holds
            new items from then on; any other is refused. Out of a deque or a queue.Queue items are taken, so what is in it is new.
            What is left in it at a stop stays there. The elements of an RDD are collected into the log; what the log cannot hold
            (an object of a class of yours) has to be in the list again, and out of a deque it is refused.

        Args:
            rdds: a list, a `collections.deque`, a `queue.Queue` or `SimpleQueue`; may be empty.
            oneAtATime: one item a batch; False takes all that wait.
            default: the batch when none waits; empty when not given.

        Raises:
            SourceError: at the start after a crash, the list holds other items than were taken from it.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda numbers: numbers, [[1, 2], [], [3]])
            [[1, 2], [], [3]]

        Source: `pyspark.streaming.StreamingContext.queueStream`. Difference: PySpark copies the list, so that it never sees what comes later, and
            refuses to recover from a checkpoint.
        """
        return DStream(QueueInputDStream(self.graph, rdds, one_at_a_time=oneAtATime, default=default))

    def receiverStream(self, receiver: Receiver, *, name: str | None = None) -> DStream[Any]:
        """A stream of what a receiver stores; see `Receiver`.

        Elements: what the receiver stores, in its order.
        Replay: what is durable in the block log is in exactly one batch, whatever dies; see `Receiver.store` for when that is.

        Example:
            >>> from engine import Receiver
            >>> from engine.testing import run_batches
            >>> class Numbers(Receiver):
            ...     def onStart(self):
            ...         self.store([1, 2])
            >>> run_batches(lambda s: s.context().receiverStream(Numbers()), [[]])
            [[1, 2]]

        Source: `org.apache.spark.streaming.StreamingContext.receiverStream`.
        """
        return DStream(ReceiverInputDStream(self.graph, receiver, self._receivers, "receiver", name))

    def socketTextStream(
        self,
        hostname: str,
        port: int,
        storageLevel: StorageLevel = StorageLevel.MEMORY_AND_DISK_2,
        *,
        name: str | None = None,
    ) -> DStream[str]:
        """The lines of UTF-8 text that a TCP server sends, without their ends (LF or CR LF).

        Elements: str, in order.
        Replay: a line is durable at most `blockInterval` after it came; those on their way when the process dies are lost.
        Time: a connection that ends or fails is made again after 2 seconds.

        Example:
            >>> from engine import LocalContext, StreamingContext
            >>> ssc = StreamingContext(LocalContext("local"), 1)
            >>> ssc.socketTextStream("localhost", 9999).flatMap(str.split).node.name
            'flatMap(socketText)'
            >>> ssc.stop()

        Source: `pyspark.streaming.StreamingContext.socketTextStream`. Difference: a line is at most 16 MiB, and blocks are on disk whatever the
            storage level.
        """
        receiver = SocketReceiver(hostname, port, text_lines, storageLevel)
        codec = str.encode, bytes.decode
        return DStream(ReceiverInputDStream(self.graph, receiver, self._receivers, "socketText", name, codec))

    def socketStream(
        self,
        hostname: str,
        port: int,
        converter: Callable[[BinaryIO], Iterable[Any]],
        storageLevel: StorageLevel = StorageLevel.MEMORY_AND_DISK_2,
        *,
        name: str | None = None,
    ) -> DStream[Any]:
        """What a function makes of the bytes that a TCP server sends.

        Elements: what the converter yields: None, bool, int, float, str, bytes, or tuples, lists, dicts and sets of them.
        Replay: as `socketTextStream`.

        Args:
            hostname: of the server.
            port: of the server.
            converter: gets the connection as a binary file, and yields elements until its end.
            storageLevel: accepted for ports; blocks are on disk.
            name: of the stream, in the checkpoint and in metrics.

        Example:
            >>> from engine import LocalContext, StreamingContext
            >>> ssc = StreamingContext(LocalContext("local"), 1)
            >>> ssc.socketStream("localhost", 9999, lambda stream: iter(lambda: stream.read(4), b"")).node.name
            'socket'
            >>> ssc.stop()

        Source: `org.apache.spark.streaming.StreamingContext.socketStream`. Difference: blocks are on disk whatever the storage
            level.
        """
        receiver = SocketReceiver(hostname, port, converter, storageLevel)
        return DStream(ReceiverInputDStream(self.graph, receiver, self._receivers, "socket", name))

    def rawSocketStream(
        self,
        hostname: str,
        port: int,
        storageLevel: StorageLevel = StorageLevel.MEMORY_AND_DISK_2,
        *,
        maxBlockSizeBytes: int = MAX_FRAME_BYTES,
        name: str | None = None,
    ) -> DStream[bytes]:
        """The frames that a TCP server sends: 4 bytes of size, big endian, and so many bytes.

        Elements: bytes, one element a frame.
        Replay: a frame is durable at most `blockInterval` after it came; those on their way when the process dies are lost.

        Args:
            hostname: of the server.
            port: of the server.
            storageLevel: accepted for ports; blocks are on disk.
            maxBlockSizeBytes: a frame that says to be larger ends the connection; at most 32 MiB.
            name: of the stream, in the checkpoint and in metrics.

        Example:
            >>> from engine import LocalContext, StreamingContext
            >>> ssc = StreamingContext(LocalContext("local"), 1)
            >>> ssc.rawSocketStream("localhost", 9999, maxBlockSizeBytes=1_024).node.name
            'rawSocket'
            >>> ssc.stop()

        Source: `org.apache.spark.streaming.StreamingContext.rawSocketStream`. Difference: there a frame is a block of serialised Java objects, here the
            bytes are the element; a frame has at most 32 MiB.
        """
        receiver = RawSocketReceiver(hostname, port, maxBlockSizeBytes, storageLevel)
        codec = bytes, bytes
        return DStream(ReceiverInputDStream(self.graph, receiver, self._receivers, "rawSocket", name, codec))

    def textFileStream(self, directory: str | os.PathLike[str], *, name: str | None = None) -> DStream[str]:
        """The lines of the text files that appear in a folder.

        Move a file in by an atomic rename when it is whole: a file is read to the length that it has when it is first seen, and later
        changes to it are not. A name that begins with a dot is not seen, so write behind one; an empty file waits. Files stay until their batch is
        committed, and until the longest window has left it. A name is read once; a minute after its file left, it is free again.

        Elements: str, UTF-8, a file's lines in order, the oldest file first; .gz, .bz2 and .xz are unpacked.
        Replay: a batch that runs again reads the same files to the same length. A restart reads what came while it was down, once.

        Args:
            directory: a folder, or a pattern (`*`, `?`, `[...]`) of folders or of files. It may come to be after the start.
            name: of the stream, in the checkpoint and in metrics.

        Example:
            >>> import pathlib, tempfile
            >>> held = tempfile.TemporaryDirectory()
            >>> from engine import LocalContext, ManualClock, StreamingContext
            >>> clock = ManualClock(1_000_000)
            >>> ssc = StreamingContext(LocalContext("local"), 1, clock=clock)
            >>> ssc.textFileStream(held.name).foreachRDD(lambda rdd: print(rdd.collect()))
            >>> ssc.start(thread=False)
            >>> _ = pathlib.Path(held.name, "a").write_text("one two")
            >>> clock.advance(1_000)
            >>> ssc.runBatch()
            ['one two']
            >>> ssc.stop()
            >>> held.cleanup()

        Source: `pyspark.streaming.StreamingContext.textFileStream`. Difference: there a file with a modification time of more than a minute ago is
            left out, as is every file that a pattern of files names.
        """
        return self._files(directory, "textFiles", LinesOf(), name=name)

    def fileStream(
        self,
        directory: str | os.PathLike[str],
        filter: Filter | None = None,
        newFilesOnly: bool = True,
        reader: Callable[[str], Iterable[Any]] | None = None,
        *,
        name: str | None = None,
    ) -> DStream[Any]:
        """What a function reads from the files that appear in a folder; see `textFileStream`.

        Elements: what the reader yields for each path, the oldest file first; lines without a reader.
        Replay: as `textFileStream`; the reader runs again and must give the same.

        Args:
            directory: a folder, or a pattern of folders or of files.
            filter: whether a file counts, by its path; without one, names that begin with a dot do not.
            newFilesOnly: leave out what is there when the application starts for the first time.
            reader: path -> elements; runs in the tasks, so the path must lead to the file there too.
            name: of the stream, in the checkpoint and in metrics.

        Example:
            >>> import pathlib, tempfile
            >>> held = tempfile.TemporaryDirectory()
            >>> _ = pathlib.Path(held.name, "a").write_text("one two")
            >>> from engine.testing import run_batches
            >>> def job(stream):
            ...     return stream.context().fileStream(held.name, newFilesOnly=False, reader=lambda path: [path.rpartition('/')[2]])
            >>> run_batches(job, [[]])
            [['a']]
            >>> held.cleanup()

        Source: `org.apache.spark.streaming.StreamingContext.fileStream`. Difference: the reader stands for Hadoop's InputFormat, and `textFileStream`'s
            differences are this one's too.
        """
        refuse_uncallable("fileStream", *(given for given in (filter, reader) if given is not None))
        made = LinesOf() if reader is None else WholeFiles(reader)
        return self._files(directory, "files", made, filter or is_visible, newFilesOnly, name)

    def binaryRecordsStream(
        self, directory: str | os.PathLike[str], recordLength: int, *, name: str | None = None
    ) -> DStream[bytes]:
        """The records of one length in the files that appear in a folder; see `textFileStream`.

        Elements: bytes of that length, in order.

        Raises:
            ConfigurationError: the length is not at least 1.
            SourceError: in a batch, a file's size is no multiple of the length.

        Example:
            >>> import pathlib, tempfile
            >>> held = tempfile.TemporaryDirectory()
            >>> from engine import LocalContext, ManualClock, StreamingContext
            >>> clock = ManualClock(1_000_000)
            >>> ssc = StreamingContext(LocalContext("local"), 1, clock=clock)
            >>> ssc.binaryRecordsStream(held.name, 2).foreachRDD(lambda rdd: print(rdd.collect()))
            >>> ssc.start(thread=False)
            >>> _ = pathlib.Path(held.name, "a").write_bytes(b"abcd")
            >>> clock.advance(1_000)
            >>> ssc.runBatch()
            [b'ab', b'cd']
            >>> ssc.stop()
            >>> held.cleanup()

        Source: `pyspark.streaming.StreamingContext.binaryRecordsStream`. Difference: as `textFileStream`.
        """
        return self._files(directory, "binaryRecords", RecordsOf(recordLength), name=name)

    def _files(
        self,
        directory: str | os.PathLike[str],
        label: str,
        reader: LinesOf | RecordsOf | WholeFiles,
        keeps: Filter = is_visible,
        new_files_only: bool = True,
        name: str | None = None,
    ) -> DStream[Any]:
        return DStream(FileInputDStream(self.graph, directory, keeps, new_files_only, reader, label, name))

    # Of several streams.

    def union(self, *dstreams: DStream[Any]) -> DStream[Any]:
        """The elements of all the streams, in the order in which the streams are named.

        Elements: DStream[T] x ... -> DStream[T].

        Raises:
            ConfigurationError: there is none, one is no stream of this context, or their slides differ.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.context().union(s, s.map(str)), [[1, 2]])
            [[1, 2, '1', '2']]

        Source: `pyspark.streaming.StreamingContext.union`. Difference: a stream of another context, and what is no stream, is
            refused by name.
        """
        return self._of_several("union", dstreams, self.graph.context.union)

    def transform(
        self, dstreams: list[DStream[Any]], transformFunc: Callable[[list[RDD[Any]]], RDD[Any]]
    ) -> DStream[Any]:
        """A function of the RDDs of several streams; it takes the list of them and runs in the driver.

        Elements: list[DStream[T]] -> DStream[U].
        Replay: the function runs again with its batch; what it reads outside of the RDDs is not replayed.

        Args:
            dstreams: of this context and of one slide.
            transformFunc: gets the RDDs in the order of the streams.

        Raises:
            ConfigurationError: there is no stream, one is no stream of this context, their slides differ, or the function does not take
                one argument; in a batch, it gives no RDD.

        Example:
            >>> from engine.testing import run_batches
            >>> def both(rdds):
            ...     return rdds[0].zip(rdds[1])
            >>> run_batches(lambda s: s.context().transform([s, s.map(str)], both), [[1, 2]])
            [[(1, '1'), (2, '2')]]

        Source: `pyspark.streaming.StreamingContext.transform`. Difference: there the slides are not compared.
        """
        if isinstance(dstreams, DStream) or not isinstance(dstreams, Iterable):
            raise ConfigurationError(f"transform: dstreams is {dstreams!r:.60}; give a list of DStreams")
        return self._of_several("transform", list(dstreams), of_rdds(transformFunc, "transform"))

    def _of_several(
        self, label: str, streams: Sequence[Any], function: Callable[[Sequence[RDD[Any]]], RDD[Any]]
    ) -> DStream[Any]:
        if not streams:
            raise ConfigurationError(
                f"{label}: should have at least one DStream to union or transform; give one"
            )
        for stream in streams:
            if not isinstance(stream, DStream):
                raise ConfigurationError(
                    f"{label}: a stream is {stream!r:.60}; give DStreams of this context"
                    + (", each as an argument of its own: union(*streams)" if label == "union" else "")
                )
            if stream.node.scope is not self.graph:
                raise ConfigurationError(
                    f"{label}: Some of the DStreams have different contexts; make {stream.node.name!r} with this context"
                )
        nodes = [stream.node for stream in streams]
        # The name of a union is that of its first form: it is in the names of state on the volume.
        return DStream(TransformedDStream(self.graph, nodes, lambda _, rdds: function(rdds), "transform"))
