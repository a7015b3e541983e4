"""Weights from checkpoint files of other systems, which hold more than tensors and plain data.

`checkpoint.load` refuses such files (MMPose's and mmengine's keep their log, configs and dates beside the
weights).  Here the pickles in a file are read as data (`pose.pickles`): objects of unknown classes are
ignored, nothing is imported, and of the tensors only those of the state dict are read.  What the file says of
sizes is checked against its own size before anything is allocated.  Both formats of torch are known: the zip
archive since 1.6, and the one before it.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pose.errors import UserError
from pose.files import check_ends
from pose.pickles import UNKNOWN, CorruptPickle, Global, read_pickle

SECTIONS = ("state_dict", "model")  # under which a file may keep the weights
LARGEST_PICKLE = 1 << 28  # bytes
LARGEST_NUMBER = 1 << 48  # of a shape; torch counts in 63 bits
MOST_DIMENSIONS = 64  # torch's own limit
MAGIC = 0x1950A86A20F9469CFC6C  # of the format before 1.6
PROTOCOL = 1001
# what zipfile raises for bytes at random, beside ValueError
ZIP_ERRORS = (zipfile.BadZipFile, EOFError, RuntimeError, OverflowError, struct.error)
DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
DICTS = {
    Global("collections", "OrderedDict"),
    Global("collections", "defaultdict"),
    Global("builtins", "dict"),
    Global("__builtin__", "dict"),
}


class Storage(NamedTuple):
    """A block of numbers that a pickle refers to by its key."""

    key: str
    dtype: torch.dtype
    length: int  # in numbers, as the pickle says

    @property
    def size(self) -> int:
        """In bytes."""
        return self.length * self.dtype.itemsize


class View(NamedTuple):
    """A tensor that is not read yet; it lies within its storage."""

    storage: Storage
    offset: int  # in numbers
    shape: tuple[int, ...]
    strides: tuple[int, ...]


ReadStorage = Callable[[Storage], bytearray]


def load(path: Path) -> dict[str, Tensor]:
    """The named weights of a checkpoint file, from its `state_dict` or `model` where it has one, on the CPU.

    Weights that share memory in the file share it here.  Raises `UserError` for a file that is missing,
    corrupt, of another kind (TorchScript) or without named weights."""
    try:
        check_ends(path)
        with open(path, "rb") as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            start = file.read(4)
            file.seek(0)
            content, read = _open_zip(file, size) if start == b"PK\3\4" else _open_legacy(file, size)
            return _tensors(_named(content, path), read, size)
    except FileNotFoundError:
        raise UserError(f"no checkpoint {path}") from None
    except OSError as error:
        raise UserError(f"cannot load the checkpoint {path}: {error.strerror or error}") from None
    except UserError:
        raise
    except (ValueError, *ZIP_ERRORS) as error:  # CorruptPickle is a ValueError
        reason = f" ({error})" if isinstance(error, CorruptPickle) else ""
        raise UserError(
            f"cannot load the checkpoint {path}: it is cut off or not a checkpoint{reason}; fetch or copy it "
            "again"
        ) from None


def _named(content: Any, path: Path) -> dict[str, View]:
    inside = [content.get(key) for key in SECTIONS] if isinstance(content, dict) else []
    weights = next((one for one in (*inside, content) if isinstance(one, dict)), {})
    views = {name: value for name, value in weights.items() if isinstance(value, View)}
    if not views:
        raise UserError(f"{path} holds no named weights")
    return views


def _tensors(views: Mapping[str, View], read: ReadStorage, size: int) -> dict[str, Tensor]:
    """The storages together are no larger than the file of `size` bytes."""
    storages = {view.storage for view in views.values()}
    if sum(storage.size for storage in storages) > size:
        raise CorruptPickle("tensors of more bytes than the file has")
    flat = {storage: _flat(storage, read(storage)) for storage in storages}
    return {
        name: flat[view.storage].as_strided(view.shape, view.strides, view.offset)
        for name, view in views.items()
    }


def _flat(storage: Storage, content: bytearray) -> Tensor:
    if not storage.length:
        return torch.empty(0, dtype=storage.dtype)
    if storage.dtype is torch.bool:  # other bytes than 0 and 1 are no bool
        return torch.frombuffer(content, dtype=torch.uint8).ne(0)
    return torch.frombuffer(content, dtype=storage.dtype)


# -------------------------------------------------------------------------------------- what pickles refer to


def _call(callee: Global, arguments: tuple[Any, ...]) -> Any:
    """What a pickle wants to be made: a dict, a tensor; anything else is ignored."""
    if callee in DICTS:
        return _dict(arguments)
    if callee == ("torch._tensor", "_rebuild_from_type_v2") and len(arguments) == 4:
        inner, _, inner_arguments, _ = arguments
        known = isinstance(inner, Global) and inner.module == "torch._utils"
        return _call(inner, inner_arguments) if known and isinstance(inner_arguments, tuple) else UNKNOWN
    if callee.module != "torch._utils":
        return UNKNOWN
    if callee.name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
        return arguments[0] if arguments and isinstance(arguments[0], View) else UNKNOWN
    if callee.name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
        conjugate = len(arguments) > 6 and bool(arguments[6])  # or negative: bits that are not kept here
        return UNKNOWN if len(arguments) < 4 or conjugate else _view(*arguments[:4])
    return UNKNOWN


def _dict(arguments: tuple[Any, ...]) -> dict[str, Any]:
    """Python 2 gave the entries of an OrderedDict as a list of [key, value]."""
    entries = arguments[0] if len(arguments) == 1 else None
    if not isinstance(entries, list):
        return {}
    return {
        entry[0]: entry[1]
        for entry in entries
        if isinstance(entry, list | tuple) and len(entry) == 2 and isinstance(entry[0], str)
    }


def _view(storage: Any, offset: Any, shape: Any, strides: Any) -> Any:
    """Raises `CorruptPickle` for a tensor that reaches beyond its storage, or counts a number twice."""
    if not isinstance(storage, Storage):
        return UNKNOWN
    if not isinstance(shape, tuple) or not isinstance(strides, tuple) or len(shape) != len(strides):
        raise CorruptPickle("a tensor without a shape")
    numbers = (offset, *shape, *strides)
    if len(shape) > MOST_DIMENSIONS or not all(_is_count(number) for number in numbers):
        raise CorruptPickle("a tensor without a shape")
    count = math.prod(shape)
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides))
    if count > storage.length or (count and last >= storage.length) or offset > storage.length:
        raise CorruptPickle("a tensor that reaches beyond its numbers")
    return View(storage, offset, shape, strides)


def _is_count(number: Any) -> bool:
    return type(number) is int and 0 <= number < LARGEST_NUMBER


def _refer(identity: Any) -> Any:
    """("storage", type, key, where it was, count), and before 1.6 a sixth that is None."""
    if not isinstance(identity, tuple) or len(identity) not in (5, 6):
        return UNKNOWN
    word, kind, key, _, count, *view = identity
    if word not in ("storage", b"storage"):  # "module": the source text of a class
        return UNKNOWN
    dtype = DTYPES.get(kind.name) if isinstance(kind, Global) else None
    if dtype is None or not isinstance(key, str) or not _is_count(count) or view not in ([], [None]):
        return UNKNOWN
    return Storage(key, dtype, count)


# -------------------------------------------------------------------------------------------- the two formats


def _open_zip(file: io.BufferedReader, size: int) -> tuple[Any, ReadStorage]:
    """The content of the archive's pickle, and how to read a storage.  Raises `ZIP_ERRORS`, `ValueError`."""
    archive = zipfile.ZipFile(file)
    names = archive.namelist()
    pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CorruptPickle("a zip archive of another kind")
    folder = pickles[0].partition("/")[0]
    if f"{folder}/constants.pkl" in names:
        raise CorruptPickle("a TorchScript program")
    if f"{folder}/byteorder" in names and _record(archive, f"{folder}/byteorder", size) != b"little":
        raise CorruptPickle("numbers in the byte order of another machine")

    def read(storage: Storage) -> bytearray:
        content = _record(archive, f"{folder}/data/{storage.key}", size)
        if len(content) != storage.size:
            raise CorruptPickle(f"{len(content)} bytes for {storage.length} numbers of {storage.dtype}")
        return content

    content = bytes(_record(archive, pickles[0], min(size, LARGEST_PICKLE)))
    return read_pickle(io.BytesIO(content), len(content), _call, _refer), read


def _record(archive: zipfile.ZipFile, name: str, most: int) -> bytearray:
    """torch compresses nothing, so what is in the archive is as large as it takes room."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise CorruptPickle(f"no {name} in the archive") from None
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > most or info.flag_bits & 1:
        raise CorruptPickle(f"{name} is compressed or too large")
    content = bytearray(info.file_size)
    position = 0
    with archive.open(info) as record:  # checks its CRC
        while chunk := record.read(1 << 20):
            content[position : position + len(chunk)] = chunk
            position += len(chunk)
    if position != info.file_size:
        raise CorruptPickle(f"{name} is cut off")
    return content


def _open_legacy(file: io.BufferedReader, size: int) -> tuple[Any, ReadStorage]:
    """Five pickles, and behind them the storages: count (int64), numbers.  Raises `CorruptPickle`."""
    storages: dict[str, Storage] = {}

    def refer(identity: Any) -> Any:
        found = _refer(identity)
        if isinstance(found, Storage) and storages.setdefault(found.key, found) != found:
            raise CorruptPickle(f"two storages under one key {found.key:.40}")
        return found

    def read_next() -> Any:
        return read_pickle(file, min(size - file.tell(), LARGEST_PICKLE), _call, refer)

    if read_next() != MAGIC or read_next() != PROTOCOL:
        raise CorruptPickle("neither of torch's formats")
    system = read_next()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise CorruptPickle("numbers in the byte order of another machine")
    content, keys = read_next(), read_next()
    if not isinstance(keys, list):
        raise CorruptPickle("no list of storages")
    starts: dict[str, int] = {}
    for key in keys:
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None or key in starts:
            raise CorruptPickle("a storage that no tensor has")
        if file.read(8) != storage.length.to_bytes(8, "little"):
            raise CorruptPickle(f"another count than {storage.length}")
        starts[key] = file.tell()
        if starts[key] + storage.size > size:
            raise CorruptPickle("its numbers end too early")
        file.seek(storage.size, io.SEEK_CUR)

    def read(storage: Storage) -> bytearray:
        if storage.key not in starts:
            raise CorruptPickle("a tensor without numbers")
        content = bytearray(storage.size)
        file.seek(starts[storage.key])
        if file.readinto(content) != len(content):
            raise CorruptPickle("its numbers end too early")
        return content

    return content, read
