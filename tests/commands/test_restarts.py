"""Two "machines" of torchrun on this one: what is started again goes on to the same weights."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pose import checkpoint
from tests.training_fixtures import differences, drawn, environment, free_port, lines, settings

pytestmark = pytest.mark.slow

TIMEOUT = 300  # seconds; what hangs fails
STEPS = ("train.epochs=30", "train.validate_every=0", "train.panels_every=0", "train.save_steps=7")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.getbasetemp())


class Cluster:
    """Two agents of one process each."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder = folder
        self.run = folder / "exp" / "run"
        self.port = free_port()
        self.command = [
            *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"),
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{self.port}", "--rdzv-id", "7"),
            *("--rdzv-conf", "join_timeout=120,last_call_timeout=1", "--local-addr", "127.0.0.1"),
            *("--max-restarts", "3", "--monitor-interval", "0.2"),
            *("-m", "pose.train", "-e", "run", "--device", "cpu", *settings(data, *STEPS)),
        ]
        self.nodes: list[subprocess.Popen[str]] = []

    def start(self) -> None:
        words = open(self.folder / f"{len(self.nodes)}.txt", "w")  # noqa: SIM115 -- a pipe could fill
        self.nodes.append(
            subprocess.Popen(
                self.command, cwd=self.folder, env=environment(), stdout=words, stderr=words, text=True
            )
        )

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def told(self) -> str:
        return "\n".join(file.read_text() for file in sorted(self.folder.glob("*.txt")))

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.05)

    def steps(self) -> int:
        return lines(self.run)[-1]["step"] if (self.run / "log.jsonl").exists() and lines(self.run) else 0

    def worker(self, node: int) -> int:
        """Pid of the process that trains."""
        agent = self.nodes[node].pid
        found = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
        return int(found[-1])

    def end(self) -> None:
        for node in self.nodes:
            if node.poll() is None:
                node.send_signal(signal.SIGTERM)
                node.wait(60)


@pytest.fixture
def cluster(tmp_path: Path, data: Path) -> Iterator[Cluster]:
    one = Cluster(tmp_path, data)
    one.start()
    one.wait_for(one.answers)  # the first keeps the list of machines
    one.start()
    yield one
    one.end()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A run of two processes that nothing happened to."""
    folder = tmp_path_factory.mktemp("reference")
    subprocess.run(
        [sys.executable, "-m", "pose.train", "-e", "run", "--device", "cpu", "--processes", "2"]
        + settings(data, *STEPS),
        cwd=folder, env=environment(), check=True, timeout=TIMEOUT, capture_output=True,
    )  # fmt: skip
    return folder / "exp" / "run"


def assert_same_weights(one: Path, other: Path) -> None:
    for part in ("model", "ema", "optimizer"):
        states = [checkpoint.load(run / "last.pt")[part] for run in (one, other)]
        assert differences(*states) == [], part
    assert [record["step"] for record in lines(one, "train")] == list(range(1, 151))
    assert [record["loss"] for record in lines(one)] == [record["loss"] for record in lines(other)]


def test_a_lost_process_is_started_again(tmp_path: Path, data: Path, reference: Path) -> None:
    """By one agent: several may count restarts differently, and their processes then wait for each other."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("--max-restarts", "3", "--monitor-interval", "0.2"),
        *("-m", "pose.train", "-e", "run", "--device", "cpu", *settings(data, *STEPS)),
    ]
    run = tmp_path / "exp" / "run"
    with open(tmp_path / "words.txt", "w") as words:
        agent = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=words, stderr=words)
    try:
        deadline = time.monotonic() + TIMEOUT
        while not (run / "log.jsonl").exists() or len(lines(run)) <= 10:
            assert time.monotonic() < deadline and agent.poll() is None
            time.sleep(0.05)
        children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        assert agent.wait(TIMEOUT) == 0
    finally:
        agent.terminate()
        agent.wait(60)
    assert "continuing at step" in (tmp_path / "words.txt").read_text()
    assert_same_weights(run, reference)


def test_the_same_lines_go_on_after_a_machine_was_lost(cluster: Cluster, reference: Path) -> None:
    """As a cluster does that queues the job again: the other machine's processes are ended, too."""
    cluster.wait_for(lambda: cluster.steps() > 10)
    lost, left, worker = cluster.nodes[1], cluster.nodes[0], cluster.worker(1)
    lost.kill()
    os.kill(worker, signal.SIGKILL)
    left.terminate()
    assert left.wait(60) != 0 and lost.wait(60) != 0
    assert cluster.steps() < 150
    cluster.start()
    cluster.wait_for(cluster.answers)
    cluster.start()
    again = cluster.nodes[2:]
    cluster.wait_for(lambda: all(node.poll() is not None for node in again))
    assert [node.returncode for node in again] == [0, 0], cluster.told()
    assert "continuing at step" in cluster.told()
    assert_same_weights(cluster.run, reference)
