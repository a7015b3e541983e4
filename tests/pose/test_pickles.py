"""pose.pickles: plain data come out as Python's own unpickler gives them, and nothing is called."""

from __future__ import annotations

import collections
import copyreg
import datetime
import functools
import io
import os
import pickle
import pickletools
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from pose import pickles
from pose.pickles import UNKNOWN, CorruptPickle, Global, read_pickle

PLAIN: list[Any] = [
    None, True, False, 0, 255, 65535, -1, 2**31, -(2**40), 2**3000, 1.5, float("inf"), "", "text",
    "Ünï\ncode", "x" * 300, "y" * 70_000, b"", b"\0\xff" * 200, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4),
    [], [1, [2, [3]]], {}, {"a": 1, "b": {"c": [None]}}, ["same"] * 3,
]  # fmt: skip


def read(content: bytes, call: Any = lambda *_: UNKNOWN, refer: Any = lambda _: UNKNOWN) -> Any:
    return read_pickle(io.BytesIO(content), len(content), call, refer)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_of_every_protocol(protocol: int) -> None:
    for value in PLAIN:
        if isinstance(value, bytes) and protocol < 3:
            continue  # written as a call of codecs.encode
        if protocol == 0 and isinstance(value, str | int) and len(str(value)) > 500:
            continue  # lines are limited
        assert read(pickle.dumps(value, protocol)) == value
    assert read(pickle.dumps(bytearray(b"abc"), 5)) == b"abc"


@pytest.mark.parametrize("protocol", [2, 4])
def test_shared_and_circular_objects(protocol: int) -> None:
    inner: list[Any] = [1]
    outer = {"a": inner, "b": inner, "deep": (inner, (inner,))}
    inner.append(inner)
    found = read(pickle.dumps(outer, protocol))
    assert found["a"] is found["b"] is found["deep"][1][0] is found["a"][1]


def test_sets_are_lists_and_other_keys_than_text_are_left_out() -> None:
    assert sorted(read(pickle.dumps({1, 2, 3}, 4))) == [1, 2, 3]
    assert read(pickle.dumps(frozenset([1]), 4)) == [1]
    assert read(pickle.dumps({1: "a", (2,): "b", "c": 3}, 2)) == {"c": 3}
    assert read(b"(S'a'\nI1\nS'b'\nI2\nd.") == {"a": 1, "b": 2}


def test_the_stream_stands_behind_the_pickle() -> None:
    content = pickle.dumps([1]) + pickle.dumps("two") + b"rest"
    stream = io.BytesIO(content)
    values = [read_pickle(stream, len(content) - stream.tell(), lambda *_: 0, lambda _: 0) for _ in range(2)]
    assert values == [[1], "two"] and stream.read() == b"rest"


class Holder:
    def __init__(self) -> None:
        self.state = [1, 2]


class Slots:
    __slots__ = ("x",)

    def __init__(self) -> None:
        self.x = 1


class Items(dict):  # type: ignore[type-arg]
    pass


Point = collections.namedtuple("Point", "x y")
OBJECTS: list[Any] = [
    Holder(), Slots(), Items(a=1), Point(1, 2), datetime.datetime(2020, 1, 2), Path("x"), 1 + 2j, range(3),
    collections.OrderedDict(a=1), collections.Counter("aab"), collections.deque([1]), os.getcwd, Holder,
    functools.partial(print, 1), collections.defaultdict(list, a=[1]),
]  # fmt: skip


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: type(value).__name__)
def test_objects_are_unknown_and_what_stands_around_them_is_kept(value: Any, protocol: int) -> None:
    protocol = max(protocol, 2) if isinstance(value, Slots) else protocol  # the first that can
    found = read(pickle.dumps({"before": [1], "object": value, "after": {"x": 2}}, protocol))
    assert found["before"] == [1] and found["after"] == {"x": 2}
    known = callable(value) and not isinstance(value, functools.partial)  # a function or class: only its name
    assert isinstance(found["object"], Global) if known else found["object"] is UNKNOWN


def test_what_is_called_is_for_the_caller_to_decide() -> None:
    seen = []

    def call(callee: Global, arguments: tuple[Any, ...]) -> Any:
        seen.append((callee, arguments))
        return {"made": True}

    content = pickle.dumps(collections.OrderedDict(a=1), 2)
    assert read(content, call) == {"made": True, "a": 1}
    assert seen == [(Global("collections", "OrderedDict"), ())]
    assert read(b"\x80\x02U\x03keyQ.", refer=lambda identity: [identity]) == ["key"]
    assert read(b"Pkey\n.", refer=lambda identity: [identity]) == ["key"]


# ---------------------------------------------------------------------------------------------- hostile bytes


class Runs:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "trace"


def attacks(trace: Path) -> dict[str, bytes]:
    """Pickles that make the file `trace` when Python's own unpickler reads them."""
    command, name = f"touch {trace}".encode(), str(trace).encode()
    short = bytes([len(command)]) + command
    code = f"open({str(trace)!r}, 'w').close()".encode()
    return {
        "REDUCE": pickle.dumps(Runs(os.system, command.decode()), 2),
        "eval": pickle.dumps(Runs(eval, code.decode()), 4),
        "INST": b"(S'" + command + b"'\niposix\nsystem\n.",
        "OBJ": b"(cposix\nsystem\nU" + short + b"o.",
        "getattr": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR(S'"
        + command
        + b"'\ntR.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c" + short + b"\x85R.",
        "dotted": b"\x80\x04\x8c\x02os\x8c\x0fsystem.__call__\x93\x8c" + short + b"\x85R.",
        "NEWOBJ": b"\x80\x02cpathlib\nPath\nU" + bytes([len(name)]) + name + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04cpathlib\nPath\nU" + bytes([len(name)]) + name + b"\x85}\x92.",
        "BUILD": b"\x80\x02cos\nenviron\n}(U\x05traceU" + short + b"ub.",
        "class BUILD": b"\x80\x02cpose.errors\nUserError\nN}U\x05traceU" + short + b"s\x86b.",
    }


@pytest.mark.parametrize("name", list(attacks(Path("x"))))
def test_nothing_is_run(trace: Path, name: str) -> None:
    content = attacks(trace)[name]
    found = read(content)
    assert found is UNKNOWN or isinstance(found, Global)
    assert not trace.exists() and "trace" not in os.environ
    from pose.errors import UserError

    assert not hasattr(UserError, "trace")


@pytest.mark.parametrize("name", ["REDUCE", "eval", "INST", "OBJ", "getattr", "STACK_GLOBAL", "dotted"])
def test_the_attacks_are_real(trace: Path, name: str) -> None:
    """Read by Python's own unpickler, in the way that the reader must not go."""
    pickle.loads(attacks(trace)[name])
    assert trace.exists()


@pytest.mark.parametrize("code", [b"\x82\x7b", b"\x83\x7b\x00", b"\x84\x7b\x00\x00\x00"])
def test_the_registry_of_extensions_is_not_asked(code: bytes) -> None:
    copyreg.add_extension("os", "getcwd", 123)
    try:
        assert pickle.loads(code + b")R.") == os.getcwd()
        with pytest.raises(CorruptPickle, match="EXT"):
            read(code + b")R.")
    finally:
        copyreg.remove_extension("os", "getcwd", 123)


@pytest.mark.parametrize(
    "content",
    [
        b"", b".", b"\x80\x02", b"N", b"NN.", b"(N.", b"t.", b"0.", b"1.", b"2.", b"a.", b"Na.", b"]s.",
        b"}Ns.", b"}(Nu.", b"}N(Nu.", b"h\x07.", b"g7\n.", b"gx\n.", b"R.", b"NR.", b"b.", b"Nb.", b"(o.",
        b"\x81.", b"\x92.", b"\x93.", b"\x85.", b"N\x86.", b"NN\x87.", b"q\x00.", b"\x94.", b"Q.", b"I1x\n.",
        b"L\n.", b"Fx\n.", b"Sx\n.", b"V\\ud8\n.", b"\xff.", b"cos\n.", b"X\x03\x00\x00\x00\xff\xff\xff.",
        b"\x97.", b"\x98.",
    ],
)  # fmt: skip
def test_bytes_that_are_no_pickle(content: bytes) -> None:
    with pytest.raises(CorruptPickle):
        read(content)


def peak(content: bytes) -> int:
    """Bytes that reading needs, of a pickle that is refused."""
    tracemalloc.start()
    try:
        with pytest.raises(CorruptPickle):
            read(content)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [
        b"B\xff\xff\xff\x7fabc.",  # BINBYTES of 2 GB
        b"\x8e" + (1 << 60).to_bytes(8, "little") + b"abc.",  # BINBYTES8
        b"\x8d" + (1 << 60).to_bytes(8, "little") + b"abc.",  # BINUNICODE8
        b"\x96" + (1 << 60).to_bytes(8, "little") + b"abc.",  # BYTEARRAY8
        b"\x8b\xff\xff\xff\x7fabc.",  # LONG4
        b"X\xff\xff\xff\xffabc.",
        b"Nr\xff\xff\xff\xff0j\xfe\xff\xff\xff.",  # a memo of 4 billion places
        b"\x95" + (1 << 60).to_bytes(8, "little") + b".",  # FRAME
    ],
)
def test_a_claimed_size_allocates_nothing(content: bytes) -> None:
    assert peak(content) < 1 << 20


def test_a_stream_is_read_to_its_size_only() -> None:
    content = b"\x80\x02X\x04\x00\x00\x00text."
    with pytest.raises(CorruptPickle):
        read_pickle(io.BytesIO(content), len(content) - 2, lambda *_: 0, lambda _: 0)


def test_long_lines_are_refused() -> None:
    with pytest.raises(CorruptPickle, match="a line of more than 4096 bytes"):
        read(b"I" + b"9" * 5000 + b"\n.")


def test_the_number_of_instructions_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MOST_INSTRUCTIONS", 1000)
    read(b"N0" * 400 + b"N.")
    with pytest.raises(CorruptPickle, match="more than 1000 instructions"):
        read(b"N0" * 500 + b"N.")


@pytest.mark.slow
def test_deep_and_tangled_structures_take_no_time() -> None:
    start = time.monotonic()
    depth = 200_000
    read(b"]" * depth + b"a" * (depth - 1) + b".")
    read(b")" + b"\x85" * depth + b".")
    # 40 tuples, each of the one before it twice: 2 ** 40 steps to hash, compare or print the last
    tangled = b")" + b"2\x86" * 40
    assert read(b"}" + tangled + b"Ns.") == {}
    assert read(tangled + b"0N.") is None
    assert time.monotonic() - start < 20


def test_every_instruction_is_known_or_refused() -> None:
    names = {opcode.name for opcode in pickletools.opcodes}
    known = set(pickles.STEPS) | pickles.VALUES | set(pickles.MAKES) | pickles.IGNORED
    assert known <= names
    assert names - known == {"EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}
