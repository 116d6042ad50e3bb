"""Whose turn it is: batches, or whoever holds them back."""

import threading

from engine.scheduler.turn import Turn

SECONDS = 10.0


def test_hold_waits_for_the_batch_that_runs() -> None:
    """A hold says that no batch runs when the running one has ended, and not before."""
    turn, runs, may_end = Turn(), threading.Event(), threading.Event()

    def batch() -> None:
        with turn:
            runs.set()
            may_end.wait(SECONDS)

    thread = threading.Thread(target=batch)
    thread.start()
    runs.wait(SECONDS)

    assert turn.hold(0) is False
    may_end.set()
    assert turn.hold(SECONDS) is True
    thread.join(SECONDS)


def test_batch_that_is_held_back_begins_when_it_may() -> None:
    """No batch begins between a hold and the word to go on."""
    turn, began = Turn(), threading.Event()

    def batch() -> None:
        with turn:
            began.set()

    turn.hold(0)
    thread = threading.Thread(target=batch)
    thread.start()
    held_back = not began.wait(0.2)
    turn.go_on()

    assert began.wait(SECONDS)
    assert held_back
    thread.join(SECONDS)


def test_owner_of_the_turn_takes_it_again() -> None:
    """A stop that has the turn runs a last batch of its own."""
    turn = Turn()

    assert turn.acquire(timeout=0)
    with turn:
        turn.release()
    assert turn.hold(0)
