"""The streams that a context makes of sources: queues, receivers, sockets and files.

Owns: InputStreams.
Never: a batch; each method makes a node.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from engine.dstream.dstream import DStream
from engine.dstream.graph import DStreamGraph
from engine.sources.files import FileInputDStream, Filter, LinesOf, RecordsOf, WholeFiles, is_visible
from engine.sources.queues import Queue, QueueInputDStream
from engine.sources.receiver import Receiver, ReceiverInputDStream, ReceiverSettings
from engine.sources.sockets import MAX_FRAME_BYTES, RawSocketReceiver, SocketReceiver, text_lines
from engine.storage import StorageLevel


class InputStreams:
    """The part of StreamingContext that makes streams of sources."""

    graph: DStreamGraph
    _receivers: ReceiverSettings

    def queueStream(self, rdds: Queue, oneAtATime: bool = True, default: Any | None = None) -> DStream[Any]:
        """A stream of the items in a queue, each a list of elements or an RDD; items that come later are seen.

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

        Source: `pyspark.streaming.StreamingContext.queueStream`, which copies the list, and refuses to recover from a checkpoint.
        """
        return DStream(QueueInputDStream(self.graph, rdds, one_at_a_time=oneAtATime, default=default))

    def receiverStream(self, receiver: Receiver, *, name: str | None = None) -> DStream[Any]:
        """A stream of what a receiver stores; see `Receiver`.

        Elements: what the receiver stores, in its order.
        Replay: what is durable in the block log is in exactly one batch, whatever dies; see `Receiver.store` for when that is.

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

        Source: `pyspark.streaming.StreamingContext.socketTextStream`; a line is at most 16 MiB.
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

        Source: `org.apache.spark.streaming.StreamingContext.socketStream`.
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

        Source: `org.apache.spark.streaming.StreamingContext.rawSocketStream`, where a frame is a block of serialised Java objects.
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

        Source: `pyspark.streaming.StreamingContext.textFileStream`. There a file with a modification time of more than a minute ago is
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

        Source: `org.apache.spark.streaming.StreamingContext.fileStream`; the reader stands for Hadoop's InputFormat.
        """
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

        Source: `pyspark.streaming.StreamingContext.binaryRecordsStream`.
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
