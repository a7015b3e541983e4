"""pose.checkpoint: a checkpoint is whole or absent, holds no code, and says what did not fit."""

from __future__ import annotations

import errno
import io
import os
import random
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pose import checkpoint
from pose.errors import UserError

STATE = {"model": {"weight": torch.arange(6.0).view(2, 3)}, "step": 7, "note": ["a", 1.5, None]}


class Opens:
    """Unpickled by the ordinary reader, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(STATE, path)
    loaded = checkpoint.load(path)
    torch.testing.assert_close(loaded["model"], STATE["model"])
    assert (loaded["step"], loaded["note"]) == (7, ["a", 1.5, None])
    assert os.listdir(tmp_path) == ["last.pt"]


@pytest.mark.parametrize("where", ["torch.save", "os.fsync", "os.replace", "half-way"])
@pytest.mark.parametrize("older", [True, False])
def test_a_full_disk_leaves_the_older_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, older: bool
) -> None:
    path = tmp_path / "last.pt"
    if older:
        checkpoint.save({"step": 1}, path)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def half(state: Any, file: Any) -> None:
        file.write(b"x" * 1000)
        full()

    if where == "half-way":
        monkeypatch.setattr("torch.save", half)
    else:
        monkeypatch.setattr(where, full)
    with pytest.raises(UserError, match="No space left on device") as caught:
        checkpoint.save({"step": 2}, path)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == (["last.pt"] if older else [])
    assert ("the older last.pt is untouched" in str(caught.value)) == older
    if older:
        assert checkpoint.load(path) == {"step": 1}


def test_an_interruption_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(STATE, tmp_path / "last.pt")
    assert os.listdir(tmp_path) == []


def test_an_interruption_inside_torch_is_no_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer cannot close the archive, and says so on top of the interruption."""

    written = [0]
    real = open

    def opened(*arguments: Any, **more: Any) -> Any:
        file = real(*arguments, **more)
        write = file.write

        class Interrupting:
            def write(self, data: Any) -> int:
                written[0] += 1
                if written[0] == 3:
                    raise KeyboardInterrupt
                return int(write(data))

            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

            def __enter__(self) -> Interrupting:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

        return Interrupting()

    monkeypatch.setattr("builtins.open", opened)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(STATE, tmp_path / "last.pt")
    monkeypatch.undo()
    assert written[0] >= 3 and os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_disk_that_really_refuses(tmp_path: Path) -> None:
    """In a process whose files may not grow beyond 100 kB: the error comes from the system, inside torch."""
    path = tmp_path / "last.pt"
    checkpoint.save({"step": 1}, path)
    program = (
        "import resource, torch\n"
        "from pathlib import Path\n"
        "from pose import checkpoint\n"
        "from pose.errors import UserError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        f"    checkpoint.save({{'x': torch.zeros(1_000_000)}}, Path({str(path)!r}))\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert f"cannot save {path}: " in done.stdout, done.stderr
    assert "the older last.pt is untouched" in done.stdout
    assert os.listdir(tmp_path) == ["last.pt"] and checkpoint.load(path) == {"step": 1}


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot save .*No such file or directory"):
        checkpoint.save(STATE, tmp_path / "gone" / "last.pt")


# ------------------------------------------------------------------------------------------- reading files


def saved(legacy: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(40, 40), "b": [1]}, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_file_cut_off_anywhere(tmp_path: Path, legacy: bool) -> None:
    data, path = saved(legacy), tmp_path / "cut.pt"
    for length in [0, 1, 2, 10, 100, 200, 300, len(data) // 2, len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match="cannot load the checkpoint"):
            checkpoint.load(path)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, legacy: bool) -> None:
    rng, data, path = random.Random(0), saved(legacy), tmp_path / "damaged.pt"
    refused = 0
    for _ in range(200):
        damaged = bytearray(data)
        for _ in range(rng.choice([1, 3, 20])):
            damaged[rng.randrange(700)] = rng.randrange(256)
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, on odd versions
            try:
                checkpoint.load(path)
            except UserError:
                refused += 1
    assert refused > 20


@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"<!DOCTYPE html>", b"\x1f\x8b"]
)
def test_a_file_that_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "page.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cut off or not a checkpoint") as caught:
        checkpoint.load(path)
    assert "weights_only" not in str(caught.value)


def test_another_archive_a_folder_and_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "text")
    for name in ["other.zip", "."]:
        with pytest.raises(UserError, match="cannot load the checkpoint"):
            checkpoint.load(tmp_path / name)
    with pytest.raises(UserError, match="no checkpoint"):
        checkpoint.load(tmp_path / "gone.pt")


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_code_in_a_file_is_not_run(tmp_path: Path, legacy: bool) -> None:
    trace, path = tmp_path / "trace", tmp_path / "hostile.pt"
    torch.save({"weight": Opens(trace)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match="holds objects other than tensors and plain data"):
        checkpoint.load(path)
    assert not trace.exists()
    torch.save(net(), path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match="holds objects other than tensors"):
        checkpoint.load(path)


def test_something_else_than_named_weights(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "t.pt")
    with pytest.raises(UserError, match="it holds a Tensor, not named weights"):
        checkpoint.load(tmp_path / "t.pt")


# ------------------------------------------------------------------------------------------ loading weights


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_wrappers_are_stripped(prefix: str) -> None:
    source, target = net(), net()
    report = checkpoint.load_matching(target, {prefix + k: v for k, v in source.state_dict().items()})
    assert report.complete and len(report.loaded) == 7
    for name, value in target.state_dict().items():
        torch.testing.assert_close(value, source.state_dict()[name])


def test_only_whole_steps_of_a_name_are_wrappers() -> None:
    assert checkpoint.strip_wrappers("backbone.module.0.weight") == "backbone.0.weight"
    assert checkpoint.strip_wrappers("submodule.weight") == "submodule.weight"
    assert checkpoint.strip_wrappers("a.my_orig_mod.b") == "a.my_orig_mod.b"


def test_the_report_says_what_did_not_fit() -> None:
    target = net()
    state: dict[str, Any] = {k: v.clone() + 1 for k, v in target.state_dict().items()}
    kept = target.state_dict()["0.weight"].clone()
    state["0.weight"] = torch.zeros(9, 3)
    del state["0.bias"]
    state["1.bias"] = 3
    state |= {f"extra.{i}": torch.zeros(1) for i in range(5)}
    report = checkpoint.load_matching(target, state)
    assert not report.complete
    assert report.missing == ("0.bias",)
    assert report.unexpected == tuple(f"extra.{i}" for i in range(5))
    assert report.mismatched == ("0.weight: file (9, 3), network (4, 3)", "1.bias: file int, network (4,)")
    assert str(report) == (
        "4 of 24 parameters loaded; 1 tensors not in the file: 0.bias; "
        "5 tensors not in the network: extra.0, extra.1, extra.2 and 2 more; "
        "2 tensors of another shape: 0.weight: file (9, 3), network (4, 3), 1.bias: file int, network (4,)"
    )
    torch.testing.assert_close(target.state_dict()["0.weight"], kept)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"conv.weight": torch.zeros(3)},
        {"0.weight": torch.zeros(7)},
        {"epoch": 3},
        {"1.running_mean": torch.zeros(4), "1.num_batches_tracked": torch.tensor(3)},
    ],
)
def test_another_networks_weights(state: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="of another network: no parameter fits"):
        checkpoint.load_matching(net(), state)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("0.weight", torch.tensor([[1.0, float("nan"), 1]] * 4), "0.weight has 4 of 12 values"),
        ("1.running_var", torch.full((4,), float("inf")), "1.running_var has 4 of 4 values"),
        ("0.bias", torch.ones(4, dtype=torch.int64), "0.bias holds int64, not floating-point"),
        ("0.bias", torch.ones(4, dtype=torch.bool), "0.bias holds bool, not floating-point"),
        ("0.weight", torch.ones(4, 3, dtype=torch.complex64), "0.weight holds complex64"),
        ("1.num_batches_tracked", torch.tensor(1j), "1.num_batches_tracked holds complex64"),
    ],
)
def test_weights_that_cannot_be_computed_with(name: str, value: torch.Tensor, says: str) -> None:
    """They are named, and nothing is copied."""
    target = net()
    before = {key: tensor.clone() for key, tensor in target.state_dict().items()}
    with pytest.raises(UserError, match=says):
        checkpoint.load_matching(target, {**net().state_dict(), name: value})
    torch.testing.assert_close(dict(target.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_numbers_are_taken(kind: torch.dtype) -> None:
    target = net()
    checkpoint.load_matching(target, {"0.weight": torch.full((4, 3), 0.5, dtype=kind)})
    assert torch.equal(target.state_dict()["0.weight"], torch.full((4, 3), 0.5))


def test_names_may_be_translated() -> None:
    report = checkpoint.load_matching(
        net(), {"fc.weight": torch.ones(4, 3)}, lambda name: name.replace("fc", "0")
    )
    assert report.loaded == ("0.weight",)
