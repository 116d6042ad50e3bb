"""What a failed job of Spark was, from the text that arrives."""

import pytest

from engine.errors import (
    ConfigurationError,
    ExecutorLostError,
    LifecycleError,
    OffsetOutOfRangeError,
    SinkError,
    UserFunctionError,
)
from engine.spark.failures import translated

WORKER = "/venv/lib/python3.11/site-packages/pyspark/python/lib/pyspark.zip/pyspark/worker.py"


class Py4JJavaError(Exception):
    """Stands for py4j's own, of which only the text is looked at."""


def job_error(*lines: str) -> Py4JJavaError:
    """What arrives when a task's Python has ended with these lines behind Spark's own frame."""
    trace = [
        "Traceback (most recent call last):",
        f'  File "{WORKER}", line 4327, in invoke_udf',
        "    run_process()",
        *lines,
    ]
    return Py4JJavaError(
        "An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.\n"
        ": org.apache.spark.SparkException: Job aborted due to stage failure: Task 1 in stage 1.0 failed 4 times, most recent "
        "failure: Lost task 1.3 in stage 1.0 (TID 7) (127.0.0.1 executor 1): org.apache.spark.api.python.PythonException: "
        + "\n".join(trace)
        + "\n SQLSTATE: 38000\n\n\tat org.apache.spark.api.python.BasePythonRunner.handle(PythonRunner.scala:780)\n"
        "\nDriver stacktrace:\n\tat org.apache.spark.scheduler.DAGScheduler.abort(DAGScheduler.scala:2844)\n"
    )


def test_the_users_traceback_begins_at_his_own_frame() -> None:
    """Of a worker's traceback the user sees his own frames and the exception, and none of Spark's."""
    error = translated(
        job_error('  File "/job.py", line 3, in <lambda>', "    1 / x", "ZeroDivisionError: division by zero")
    )

    assert isinstance(error, UserFunctionError)
    assert str(error) == "ZeroDivisionError: division by zero"
    assert error.user_traceback == (
        'Traceback (most recent call last):\n  File "/job.py", line 3, in <lambda>\n    1 / x\n'
        "ZeroDivisionError: division by zero"
    )


def test_a_message_of_several_lines_stays_whole() -> None:
    """A message over several lines is not taken for frames."""
    error = translated(job_error('  File "/job.py", line 3, in f', "    raise", "ValueError: one", "two"))

    assert str(error) == "ValueError: one\ntwo"


@pytest.mark.parametrize("kind", [SinkError, OffsetOutOfRangeError, ConfigurationError])
def test_an_error_of_the_engine_keeps_its_class(kind: type[Exception]) -> None:
    """What the engine itself raised in a task arrives as that class, so exit codes and retries are those of local."""
    line = f"engine.errors.{kind.__name__}: offset 3 is gone; restore it"
    error = translated(job_error('  File "/engine/sources/log.py", line 3, in read', "    raise", line))

    assert type(error) is kind
    assert str(error) == "offset 3 is gone; restore it"


def test_a_user_function_error_of_a_task_is_not_wrapped_twice() -> None:
    """A UserFunctionError that the engine raised in a task arrives with its own sentence."""
    line = "engine.errors.UserFunctionError: StopIteration: the function of the event time raised it"
    error = translated(job_error('  File "/engine/sources/direct.py", line 3, in f', "    raise", line))

    assert isinstance(error, UserFunctionError)
    assert str(error) == "StopIteration: the function of the event time raised it"


def test_a_worker_without_the_job_is_told_with_the_remedy() -> None:
    """A worker whose Python lacks a module is a wrong setting, named with its remedy."""
    error = translated(
        job_error(
            f'  File "{WORKER}", line 75, in read_command',
            "    load()",
            "ModuleNotFoundError: No module named 'engine'",
        )
    )

    assert isinstance(error, ConfigurationError)
    assert "No module named 'engine'" in str(error)
    assert "PYSPARK_PYTHON" in str(error)


def test_a_worker_without_the_engines_libraries_is_told_with_the_remedy() -> None:
    """A module that the engine itself imports in vain is the worker's Python, not a fault of the user's function."""
    error = translated(
        job_error(
            f'  File "{WORKER}", line 75, in read_command',
            "    load()",
            '  File "/job/engine/rdd/structs.py", line 14, in <module>',
            "    import msgspec",
            "ModuleNotFoundError: No module named 'msgspec'",
        )
    )

    assert isinstance(error, ConfigurationError)
    assert "No module named 'msgspec'" in str(error)
    assert "PYSPARK_PYTHON" in str(error)


def test_a_module_that_a_users_function_lacks_is_its_error() -> None:
    """A function that imports in vain keeps its own traceback."""
    error = translated(
        job_error(
            '  File "/job/engine/rdd/fuse.py", line 3, in chain',
            "    run()",
            '  File "/job/words.py", line 9, in parse',
            "    import missing",
            "ModuleNotFoundError: No module named 'missing'",
        )
    )

    assert isinstance(error, UserFunctionError)
    assert "words.py" in error.user_traceback


def test_a_lost_executor_is_retried_as_ours_is() -> None:
    """A job whose tasks lost their executors in every attempt is an ExecutorLostError, which the scheduler runs again."""
    text = (
        "Job aborted due to stage failure: Task 0 in stage 2.0 failed 4 times, most recent failure: Lost task 0.3 in stage 2.0 "
        "(TID 12) (127.0.0.1 executor 4): ExecutorLostFailure (executor 4 exited caused by one of the running tasks)"
    )

    assert isinstance(translated(Py4JJavaError(text)), ExecutorLostError)


def test_a_stopped_context_is_told_as_such() -> None:
    """A job that was cut off by the end of its SparkContext says so."""
    text = "org.apache.spark.SparkException: Job 3 cancelled because SparkContext was shut down"

    assert isinstance(translated(Py4JJavaError(text)), LifecycleError)


def test_any_other_error_stays_as_it_is() -> None:
    """An error that no task raised, such as a refused path, is handed on as it came."""
    error = Py4JJavaError("java.lang.IllegalArgumentException: path is empty")

    assert translated(error) is error
