"""A run folder on a disk that is full, really: the training ends with one sentence and exit code 2, whatever
the number of processes, or it goes on; and no process is left behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.commands.test_workers import Training, command, sentence
from tests.small_machines import can_mount, mounted
from tests.training_fixtures import drawn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or not can_mount(), reason="needs root"),
]
LONG = ("train.epochs=4", "train.validate_images=4", "train.panels_every=1", "train.save_steps=1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.getbasetemp())


@pytest.mark.parametrize(("processes", "size"), [(1, "8k"), (1, "400k"), (1, "1m"), (2, "64k"), (2, "1m")])
def test_a_run_folder_on_a_full_disk(data: Path, tmp_path: Path, processes: int, size: str) -> None:
    (tmp_path / "exp").mkdir()
    line = [*command(data, *LONG), "--processes", str(processes)]
    code, told = Training(tmp_path, mounted(tmp_path / "exp", size, line)).ended()
    assert "Traceback" not in told and code in (0, 2), told
    if code == 2:
        assert "No space left on device" in sentence(told) and "exp/run" in told, told
    else:
        assert told.count("finished after 20 steps") == 1, told
    assert not (tmp_path / "exp/run").exists(), "outside of the small file system"
    assert told.count("cannot write exp/run/log.jsonl") <= 1, told
