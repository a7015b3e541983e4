"""pose.foreign: the weights of files that hold other objects too, and nothing of those."""

from __future__ import annotations

import collections
import datetime
import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import tracemalloc
import types
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pose import checkpoint, foreign
from pose.errors import UserError
from tests.training_fixtures import environment

FORMATS = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


def save(content: Any, path: Path, legacy: bool = False, protocol: int = 2) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy, pickle_protocol=protocol)
    return path


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def assert_same(found: dict[str, Tensor], expected: Any) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and found[name].stride() == value.stride()
        assert torch.equal(found[name], value), name


@pytest.fixture
def mmengine() -> Iterator[types.ModuleType]:
    """A module of classes that exists only while a file is written."""
    module = types.ModuleType("mmengine_stand_in")

    class HistoryBuffer:
        def __init__(self) -> None:
            self._log_history = np.arange(5.0)
            self._statistics_methods: dict[str, Any] = {}

        def __setstate__(self, state: Any) -> None:
            raise AssertionError("the state was given to the class")

    class ConfigDict(dict):  # type: ignore[type-arg]
        pass

    class Hooks(list):  # type: ignore[type-arg]
        pass

    for one in (HistoryBuffer, ConfigDict, Hooks):
        one.__module__ = module.__name__
        one.__qualname__ = one.__name__
        setattr(module, one.__name__, one)
    sys.modules[module.__name__] = module
    yield module
    sys.modules.pop(module.__name__, None)


@FORMATS
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_file_of_another_system(
    tmp_path: Path, mmengine: types.ModuleType, legacy: bool, protocol: int
) -> None:
    weights = network().state_dict()
    hub = {"log_scalars": collections.OrderedDict(loss=mmengine.HistoryBuffer()), "runtime_info": {}}
    content = {
        "meta": {
            "time": datetime.datetime(2022, 12, 28, 3, 4, 5),
            "epoch": np.int64(140),
            "score": np.float32(0.5),
            "config": mmengine.ConfigDict(model=mmengine.ConfigDict(type="x")),
            "hooks": mmengine.Hooks([1, 2]),
            "path": Path("work_dirs"),
            "hash": np.random.default_rng(0).random(3),
        },
        "state_dict": weights,
        "message_hub": hub,
        "optimizer": torch.optim.Adam(network().parameters()).state_dict(),
    }
    path = save(content, tmp_path / "model.pth", legacy, protocol)
    del sys.modules[mmengine.__name__]
    with pytest.raises(UserError, match="cannot load the checkpoint"):
        checkpoint.load(path)
    assert_same(foreign.load(path), weights)
    assert mmengine.__name__ not in sys.modules


@FORMATS
def test_all_kinds_of_tensors(tmp_path: Path, legacy: bool) -> None:
    base = torch.arange(24.0).view(2, 3, 4)
    tied = torch.rand(3)
    weights = {
        **{str(dtype): torch.ones(3).to(dtype) for dtype in foreign.DTYPES.values()},
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "transposed": base.permute(2, 0, 1),
        "part": base[1, 1:, ::2],
        "last": nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last).weight.detach(),
        "tied": tied,
        "again": tied,
        "parameter": nn.Parameter(torch.rand(2)),
    }
    found = foreign.load(save({"state_dict": weights}, tmp_path / "x.pth", legacy))
    assert_same(found, weights)
    assert found["tied"].data_ptr() == found["again"].data_ptr() and not found["parameter"].requires_grad
    with_attribute = nn.Parameter(torch.ones(2))
    with_attribute.note = "x"  # type: ignore[attr-defined]
    assert_same(foreign.load(save({"a": with_attribute}, tmp_path / "y.pth", legacy)), {"a": with_attribute})


@FORMATS
@pytest.mark.parametrize("section", ["state_dict", "model", None])
def test_where_the_weights_are(tmp_path: Path, legacy: bool, section: str | None) -> None:
    weights = network().state_dict()
    content: Any = {section: weights, "epoch": 3, "best": torch.ones(1)} if section else weights
    assert_same(foreign.load(save(content, tmp_path / "x.pth", legacy)), weights)


@pytest.mark.parametrize(
    "content",
    [{}, [], torch.ones(3), {"epoch": 3}, {"state_dict": {}}, {"state_dict": 3}, {1: torch.ones(2)}, None],
)
@FORMATS
def test_a_file_without_weights(tmp_path: Path, legacy: bool, content: Any) -> None:
    with pytest.raises(UserError, match="x.pth holds no named weights"):
        foreign.load(save(content, tmp_path / "x.pth", legacy))


def test_only_the_weights_are_read(tmp_path: Path) -> None:
    """The optimiser's state may be twice as large."""
    path = save({"state_dict": {"a": torch.ones(10)}, "optimizer": torch.ones(1_000_000)}, tmp_path / "x.pth")
    tracemalloc.start()
    foreign.load(path)
    largest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert largest < 1_000_000


def test_a_dict_of_python_2(tmp_path: Path) -> None:
    """OrderedDict's entries as lists, names as bytes strings."""
    content = pickled(tensor(storage(3), shape=(3,))).removeprefix(b"\x80\x02").removesuffix(b".")
    entries = b"](](U\x01a" + content + b"ee"
    path = archive(
        tmp_path / "x.pth", b"ccollections\nOrderedDict\n" + entries + b"\x85R.", {"0": numbers(0, 1, 2)}
    )
    assert_same(foreign.load(path), {"a": torch.arange(3.0)})


# --------------------------------------------------------------------------------------- files that are wrong


@FORMATS
def test_a_file_cut_off_anywhere(tmp_path: Path, legacy: bool) -> None:
    data = save({"state_dict": network().state_dict()}, tmp_path / "x.pth", legacy).read_bytes()
    path = tmp_path / "cut.pth"
    for length in [0, 1, 3, 4, 10, 100, 1000, len(data) // 2, len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match="cut off or not a checkpoint.*; fetch or copy it again"):
            foreign.load(path)


@FORMATS
def test_bytes_at_random_are_read_or_refused(tmp_path: Path, legacy: bool) -> None:
    rng, path = random.Random(0), tmp_path / "x.pth"
    data = save({"meta": Path("x"), "state_dict": network().state_dict()}, path, legacy).read_bytes()
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        regions = [range(900), range(len(data) - 1500, len(data)), range(len(data))]
        places = rng.choice(regions)
        for _ in range(rng.choice([1, 3, 20])):
            damaged[rng.choice(places)] = rng.randrange(256)
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python, on odd escapes in text
            try:
                foreign.load(path)
            except UserError:
                refused += 1
    assert refused > 100


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", b"\x1f\x8b", b"PK\3\4", b"\x80\x02}."])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cut off or not a checkpoint"):
        foreign.load(path)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_other_archives_a_folder_a_pipe_and_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        other.writestr("a.txt", "text")
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(tmp_path / "script.pt"))
    os.mkfifo(tmp_path / "pipe")
    for name, message in [
        ("other.zip", "of another kind"),
        ("script.pt", "a TorchScript program"),
        (".", "directory"),
        ("pipe", "no regular file"),
        ("gone.pth", "no checkpoint"),
    ]:
        with pytest.raises(UserError, match=message):
            foreign.load(tmp_path / name)


# ----------------------------------------------------------------------- files that claim more than they hold


def archive(
    path: Path, content: bytes, records: dict[str, bytes], compression: int = zipfile.ZIP_STORED
) -> Path:
    """A file as torch writes it, with a pickle and records of one's own."""
    with zipfile.ZipFile(path, "w", compression) as made:
        made.writestr("archive/data.pkl", content)
        made.writestr("archive/version", b"3\n")
        for name, data in records.items():
            made.writestr(f"archive/data/{name}", data)
    return path


def numbers(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


class Identity:
    """Pickled as a persistent id."""

    def __init__(self, *identity: Any) -> None:
        self.identity = identity


class Calls:
    """Pickled as a call of a global."""

    def __init__(self, name: str, *arguments: Any) -> None:
        self.name, self.arguments = name, arguments

    def __reduce__(self) -> Any:
        module, _, name = self.name.rpartition(".")
        return getattr(sys.modules[module], name), self.arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, one: Any) -> Any:
        return one.identity if isinstance(one, Identity) else None


def pickled(content: Any) -> bytes:
    stream = io.BytesIO()
    Pickler(stream, 2).dump(content)
    return stream.getvalue()


def storage(count: Any = 4, key: Any = "0", kind: Any = torch.FloatStorage) -> Identity:
    return Identity("storage", kind, key, "cpu", count)


def tensor(block: Any, offset: Any = 0, shape: Any = (4,), strides: Any = (1,)) -> Calls:
    return Calls("torch._utils._rebuild_tensor_v2", block, offset, shape, strides, False, {})


FOUR = numbers(1, 2, 3, 4)


def test_the_files_of_these_tests_are_what_torch_reads(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.pth", pickled({"w": tensor(storage())}), {"0": FOUR})
    assert torch.equal(torch.load(path)["w"], foreign.load(path)["w"])
    assert foreign.load(path)["w"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "wrong",
    [
        tensor(storage(), shape=(5,)),
        tensor(storage(), offset=1),
        tensor(storage(), offset=-1),
        tensor(storage(), strides=(2,)),
        tensor(storage(), shape=(2, 2), strides=(3, 1)),
        tensor(storage(), shape=(1 << 40,), strides=(0,)),  # a view that would be copied into 4 TB
        tensor(storage(), shape=(1 << 70,)),
        tensor(storage(), shape=(-4,)),
        tensor(storage(), shape=(-2, -2), strides=(1, 1)),
        tensor(storage(), shape=(0,), offset=100),
        tensor(storage(), shape=(0, 1 << 60), strides=(1, 1)),
        tensor(storage(), shape=[4]),
        tensor(storage(), shape=(4,), strides=()),
        tensor(storage(), shape=(4.0,)),
        tensor(storage(), shape=(True, 4), strides=(1, 1)),
        tensor(storage(), shape=(1,) * 100, strides=(1,) * 100),
        tensor(storage(count=1 << 40), shape=(4,)),
        tensor(storage(count=5), shape=(4,)),
        tensor(storage(count=3), shape=(3,)),
        tensor(storage(key="1"), shape=(4,)),
        tensor(storage(key="../data.pkl")),
    ],
    ids=lambda wrong: str(wrong.arguments[1:4])[:40],
)
def test_sizes_are_checked_before_anything_is_allocated(tmp_path: Path, wrong: Any) -> None:
    path = archive(tmp_path / "x.pth", pickled({"w": wrong}), {"0": FOUR})
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="cut off or not a checkpoint"):
            foreign.load(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "wrong",
    [
        tensor(Identity("storage")),
        tensor(Identity("module", torch.FloatStorage, "0", "cpu", 4)),
        tensor(Identity("storage", "FloatStorage", "0", "cpu", 4)),
        tensor(Identity("storage", torch.FloatStorage, 0, "cpu", 4)),
        tensor(Identity("storage", torch.FloatStorage, "0", "cpu", -4)),
        tensor(Identity("storage", torch.FloatStorage, "0", "cpu", "4")),
        tensor(Identity("storage", torch.FloatStorage, "0", "cpu", 4, ("1", 0, 4))),
        tensor(Identity("storage", torch.nn.Module, "0", "cpu", 4)),
        tensor(Identity(*([1] * 9))),
        tensor([1.0, 2.0]),
        Calls("torch._utils._rebuild_tensor_v2"),
        Calls("torch._utils._rebuild_parameter"),
        Calls("torch._utils._rebuild_parameter", "text", False, {}),
        Calls("torch._utils._rebuild_qtensor", storage(), 0, (4,), (1,), None, False, {}),
        Calls("torch._tensor._rebuild_from_type_v2", len, str, (), {}),
        Calls("torch._utils._rebuild_tensor_v2", storage(), 0, (4,), (1,), False, {}, {"conj": True}),
    ],
    ids=lambda wrong: wrong.name.rpartition(".")[2],
)
def test_what_is_no_tensor_is_left_out(tmp_path: Path, wrong: Any) -> None:
    content = pickled({"state_dict": {"wrong": wrong, "right": tensor(storage())}})
    path = archive(tmp_path / "x.pth", content, {"0": FOUR})
    assert list(foreign.load(path)) == ["right"]


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """100 MB of zeros in 100 kB, in a storage or in the pickle itself."""
    count = 25_000_000
    weights = archive(
        tmp_path / "weights.pth",
        pickled({"w": tensor(storage(count), shape=(count,))}),
        {"0": bytes(4 * count)},
        zipfile.ZIP_DEFLATED,
    )
    text = archive(tmp_path / "text.pth", pickle.dumps(bytes(4 * count), 3), {}, zipfile.ZIP_DEFLATED)
    for path in (weights, text):
        assert path.stat().st_size < 200_000
        tracemalloc.start()
        with pytest.raises(UserError, match="compressed or too large"):
            foreign.load(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()


def test_records_that_lie_over_each_other(tmp_path: Path) -> None:
    """1000 storages of the same 1 MB: each is as large as it says, all together are not."""
    size, count = 1 << 20, 1000
    content = pickled({str(i): tensor(storage(size // 4, str(i)), shape=(size // 4,)) for i in range(count)})
    path = archive(tmp_path / "x.pth", content, {"0": bytes(size)})
    with zipfile.ZipFile(path, "a") as made:
        first = made.getinfo("archive/data/0")
        for i in range(1, count):
            other = zipfile.ZipInfo(f"archive/data/{i}")
            other.header_offset, other.CRC = first.header_offset, first.CRC
            other.file_size = other.compress_size = size
            made.filelist.append(other)
            made.NameToInfo[other.filename] = other
        made._didModify = True  # type: ignore[attr-defined]
    assert path.stat().st_size < 2 * size
    tracemalloc.start()
    with pytest.raises(UserError, match="more bytes than the file has"):
        foreign.load(path)
    assert tracemalloc.get_traced_memory()[1] < 16 * size
    tracemalloc.stop()


def test_a_record_that_was_changed(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.pth", pickled({"w": tensor(storage())}), {"0": FOUR})
    path.write_bytes(path.read_bytes().replace(FOUR, numbers(1, 2, 3, 5)))
    with pytest.raises(UserError, match="cut off or not a checkpoint"):
        foreign.load(path)


def test_bools_that_are_none(tmp_path: Path) -> None:
    content = pickled({"w": tensor(storage(kind=torch.BoolStorage))})
    path = archive(tmp_path / "x.pth", content, {"0": b"\x00\x01\x02\xff"})
    assert foreign.load(path)["w"].view(torch.uint8).tolist() == [0, 1, 1, 1]


def legacy_file(
    path: Path, content: bytes, keys: Any = ("0",), blocks: bytes = b"", little: Any = True
) -> Path:
    head = [foreign.MAGIC, foreign.PROTOCOL, {"little_endian": little}]
    parts = [*(pickle.dumps(one, 2) for one in head), content, pickle.dumps(list(keys), 2), blocks]
    path.write_bytes(b"".join(parts))
    return path


def block(*values: float, count: int | None = None) -> bytes:
    return struct.pack("<q", len(values) if count is None else count) + numbers(*values)


def old(count: Any = 4, key: Any = "0") -> Identity:
    return Identity("storage", torch.FloatStorage, key, "cpu", count, None)


def test_the_format_before_1_6(tmp_path: Path) -> None:
    content = pickled({"w": tensor(old()), "v": tensor(old(1, "7"), shape=(1,))})
    path = legacy_file(tmp_path / "x.pth", content, ["0", "7"], block(1, 2, 3, 4) + block(5))
    found = foreign.load(path)
    assert found["w"].tolist() == [1, 2, 3, 4] and found["v"].tolist() == [5]
    assert torch.equal(torch.load(path)["w"], found["w"])


@pytest.mark.parametrize(
    ("keys", "blocks", "little"),
    [
        (["0"], block(1, 2, 3), True),
        (["0"], block(1, 2, 3, count=4), True),
        (["0"], block(1, 2, 3, 4, count=1 << 60), True),
        (["0"], block(1, 2, 3, 4, count=-1), True),
        (["0"], b"", True),
        ([], block(1, 2, 3, 4), True),
        (["1"], block(1, 2, 3, 4), True),
        ([0], block(1, 2, 3, 4), True),
        ([["0"]], block(1, 2, 3, 4), True),
        (["0", "0"], block(1, 2, 3, 4) * 2, True),
        (["0"], block(1, 2, 3, 4), False),
        (["0"], block(1, 2, 3, 4), None),
    ],
)
def test_storages_of_the_older_format_that_do_not_fit(
    tmp_path: Path, keys: Any, blocks: bytes, little: Any
) -> None:
    path = legacy_file(tmp_path / "x.pth", pickled({"w": tensor(old())}), keys, blocks, little)
    with pytest.raises(UserError, match="cut off or not a checkpoint"):
        foreign.load(path)


@pytest.mark.parametrize("count", [1 << 40, 5])
def test_a_claim_of_the_older_format(tmp_path: Path, count: int) -> None:
    path = legacy_file(
        tmp_path / "x.pth", pickled({"w": tensor(old(count))}), ["0"], block(1, 2, 3, 4, count=count)
    )
    tracemalloc.start()
    with pytest.raises(UserError, match="numbers end too early"):
        foreign.load(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    content = pickled({"w": tensor(old(4)), "v": tensor(old(8), shape=(8,), strides=(0,))})
    with pytest.raises(UserError, match="two storages under one key"):
        foreign.load(legacy_file(tmp_path / "y.pth", content, ["0"], block(1, 2, 3, 4)))


# --------------------------------------------------------------------------------------------- nothing is run

WATCHED = """
import json, sys
from pathlib import Path
import torch
from pose import foreign
from pose.errors import UserError

events, on = [], False

def watch(event, arguments):
    if on and not event.startswith(("object.__getattr__", "sys._getframe")):
        events.append([event, [str(one)[:200] for one in arguments[:1]]])

sys.addaudithook(watch)
for path in sys.argv[1:]:
    on = True
    try:
        found = list(foreign.load(Path(path)))
    except UserError as error:
        found = str(error)
    on = False
    print(json.dumps([path, found, events]))
    events.clear()
"""


def hostile_files(folder: Path) -> list[Path]:
    """Whose reading by an ordinary unpickler runs something, in both formats, in each of their pickles."""
    trace = folder / "trace"
    system = pickle.dumps(Calls("os.system", f"touch {trace}"), 2)
    evaluated = pickle.dumps(Calls("builtins.eval", f"open({str(trace)!r}, 'w')"), 2)
    loaded = pickle.dumps(Calls("torch.serialization.load", str(folder / "x.pth")), 2)
    rebuilt = pickle.dumps(
        Calls("torch._tensor._rebuild_from_type_v2", os.system, str, (f"touch {trace}",), {}), 2
    )
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cos\nsystem\n(I0\ntS'b'\ntR(I1\n(I1\nt"
        b"cos\nsystem\nI0\n(lS'x'\natb."
    )
    defaults = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}U\x0c__defaults__)s\x86b."
    module = b"\x80\x02ctorch.nn.parameter\nParameter\nN}U\x07__new__Ns\x86b."
    attacks = [system, evaluated, loaded, rebuilt, array, defaults, module]
    made = []
    for i, attack in enumerate(attacks):
        inside = attack.removeprefix(b"\x80\x02").removeprefix(b"\x80\x04").removesuffix(b".")
        weights = pickled({"w": tensor(storage())}).removesuffix(b".")
        with_weights = weights + b"U\x05extra" + inside + b"s."
        made.append(archive(folder / f"{i}.pth", with_weights, {"0": FOUR}))
        old_weights = pickled({"w": tensor(old())}).removesuffix(b".")
        four = block(1, 2, 3, 4)
        made.append(
            legacy_file(folder / f"{i}_old.pth", old_weights + b"U\x05extra" + inside + b"s.", ["0"], four)
        )
        path = folder / f"{i}_first.pth"
        path.write_bytes(attack + made[-1].read_bytes())
        made.append(path)
        path = folder / f"{i}_last.pth"
        path.write_bytes(made[-2].read_bytes().replace(pickle.dumps(["0"], 2), attack))
        made.append(path)
    return made


def test_no_import_no_call_no_file(tmp_path: Path) -> None:
    """By Python's audit events: reading opens the file, and that is all."""
    files = hostile_files(tmp_path)
    before = sorted(os.listdir(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(files[0]), *map(str, files)],
        capture_output=True, text=True, env=environment(), timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, *records = (json.loads(line) for line in done.stdout.splitlines())
    assert len(records) == len(files)  # the first time torch and codecs import parts of themselves
    for path, found, events in records:
        whole = Path(path).stem.partition("_")[2] in ("", "old")
        assert found == ["w"] if whole else "cannot load the checkpoint" in found, path
        assert [event for event in events if event != ["open", [path]]] == [], path
    assert sorted(os.listdir(tmp_path)) == before
