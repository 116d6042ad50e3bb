"""What fails and may run again in place: outputs, and what advances state.

Owns: RETRIED, patiently.
Never: a clock, a policy of its own.
"""

import logging
from collections.abc import Callable
from typing import TypeVar

from engine.dstream.policy import Retry
from engine.errors import SinkError, SourceError, TaskTimeoutError, UserFunctionError

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRIED = (UserFunctionError, SinkError, SourceError)
"""What a policy decides on; all else concerns the batch, the checkpoint or the whole context."""


def patiently(policy: Retry, run: Callable[[bool], T], pause: Callable[[float], object]) -> T:
    """What a run gives, which is repeated as often as the policy allows.

    Args:
        policy: of what runs.
        run: told whether it would run again after a failure.
        pause: waits for so many seconds.

    Raises:
        StreamingError: the last run failed, or nothing that a policy decides on has happened.

    Example:
        >>> patiently(Retry(3), lambda may_retry: may_retry, print)
        True
    """
    failures = 0
    while True:
        try:
            return run(failures < policy.times)
        except TaskTimeoutError:
            raise  # what hangs once hangs again
        except RETRIED as error:
            failures += 1
            if failures > policy.times:
                raise
            seconds = policy.pause(failures)
            log.warning("%s; it runs again in %.1f s (%d of %d)", error, seconds, failures, policy.times)
            pause(seconds)
