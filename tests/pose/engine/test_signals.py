"""pose.engine.signals: a second Ctrl-C ends the process, whatever it waits for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

from pose.engine.signals import catch_signals
from tests.training_fixtures import environment

PROGRAM = """
    import ctypes, os, signal, threading, time
    from pose.engine import signals
    signals.GRACE = 1.0

    def send():
        for _ in range(2):
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)

    with signals.catch_signals():
        threading.Thread(target=send, daemon=True).start()
        WAIT
    print("went on")
"""


def run(wait: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM).replace("WAIT", wait)],
        env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stderr


def test_a_wait_in_python_ends_at_once() -> None:
    code, said = run("time.sleep(60)")
    assert code != 0 and "KeyboardInterrupt" in said and "still busy" not in said


def test_a_wait_that_hears_nothing_ends_too() -> None:
    """Where Python's own handler does nothing, as in a call into a library that waits for others."""
    code, said = run("signal.signal(signal.SIGINT, lambda *_: None); [time.sleep(20) for _ in range(3)]")
    assert code == 130 and said == "still busy after a second Ctrl-C: ended at once\n"


def test_nothing_stays_behind() -> None:
    """Also where a process that was started meanwhile is still there."""
    before = threading.active_count()
    for _ in range(3):
        with catch_signals() as stop:
            child = os.fork()
            if not child:
                time.sleep(60)
                os._exit(0)
            assert stop() == 0
        assert threading.active_count() == before
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_elsewhere_than_in_the_main_thread_there_are_no_signals() -> None:
    seen = []

    def work() -> None:
        with catch_signals() as stop:
            seen.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0]
