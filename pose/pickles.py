"""Reads pickles as data: nothing that a pickle names is imported, looked up or called.

Python's own unpickler calls whatever a file asks for; with an allow list the file still gets real functions
and classes, which it can modify (BUILD) or call with arguments of its choice.  Here a class or function is a
`Global`, two strings, and the result of calling it is `UNKNOWN`, unless the caller's `call` says otherwise.
The instructions are decoded by the standard library's `pickletools`.
"""

from __future__ import annotations

import itertools
import pickletools
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

MOST_INSTRUCTIONS = 5_000_000  # of one pickle: a network of 2000 tensors has 60 000; an empty list is one
LONGEST_LINE = 4096  # bytes of names, and of text and numbers as the oldest pickles write them


class CorruptPickle(ValueError):
    """Bytes that are not a pickle, or that claim more than they hold."""


class Global(NamedTuple):
    """A class or function that a pickle names."""

    module: str
    name: str


class Unknown:
    """The type of `UNKNOWN`: an object of some other class, without its content."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = Unknown()

Call = Callable[[Global, tuple[Any, ...]], Any]
Refer = Callable[[Any], Any]


def read_pickle(stream: BinaryIO, size: int, call: Call, refer: Refer) -> Any:
    """The content of the pickle at the current position of `stream`, which is behind it afterwards.

    size: bytes left in the stream; what claims to be longer is corrupt, before it is allocated.
    call: the result of calling a global with these arguments, or `UNKNOWN`.
    refer: what a persistent id stands for.
    Dicts keep only entries whose key is a string, sets become lists.  Raises `CorruptPickle`, `OSError`, and
    whatever `call` and `refer` raise."""
    try:
        return _Machine(call, refer).run(_Bounded(stream, size))
    except (IndexError, KeyError, TypeError, AttributeError) as error:  # an empty stack, an unset memo ...
        raise CorruptPickle(f"instructions that do not fit ({type(error).__name__})") from None
    except CorruptPickle:
        raise
    except (ValueError, OverflowError) as error:  # of pickletools; UnicodeDecodeError is one
        raise CorruptPickle(str(error).split("\n")[0][:100]) from None


class _Bounded:
    """A stream of so many bytes: a read of more gives what is there, and allocates no more."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.stream = stream
        self.left = size

    def read(self, count: int) -> bytes:
        data = self.stream.read(max(0, min(count, self.left)))
        self.left -= len(data)
        return data

    def readline(self) -> bytes:
        line = self.stream.readline(min(self.left, LONGEST_LINE + 1))
        if len(line) > LONGEST_LINE:
            raise CorruptPickle(f"a line of more than {LONGEST_LINE} bytes")
        self.left -= len(line)
        return line


# instructions whose argument is the value
VALUES = frozenset([
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
])  # fmt: skip
MAKES: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
}
IGNORED = frozenset(["PROTO", "FRAME", "STOP"])
# all others are refused: EXT1, EXT2, EXT4, NEXT_BUFFER and READONLY_BUFFER name what is not in the file


class _Machine:
    """A stack machine for one pickle; it holds plain data, `Global`s and what `call` and `refer` give."""

    def __init__(self, call: Call, refer: Refer) -> None:
        self.call, self.refer = call, refer
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under the marks
        self.memo: dict[int, Any] = {}

    def run(self, stream: Any) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            name = opcode.name
            if count >= MOST_INSTRUCTIONS:
                raise CorruptPickle(f"more than {MOST_INSTRUCTIONS} instructions")
            if name in VALUES:
                self.stack.append(argument)
            elif name in MAKES:
                self.stack.append(MAKES[name]())
            elif name in STEPS:
                STEPS[name](self, argument)
            elif name not in IGNORED:
                raise CorruptPickle(f"the instruction {name}")
        if len(self.stack) != 1 or self.below:
            raise CorruptPickle("an end before its end")
        return self.stack[0]

    def marked(self) -> list[Any]:
        """What was put on the stack since the last mark."""
        items = self.stack
        self.stack = self.below.pop()
        return items

    # ---- the stack and the memo

    def mark(self, _: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:  # the mark
            self.marked()

    def pop_mark(self, _: Any) -> None:
        self.marked()

    def duplicate(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    # ---- containers

    def tuple_of_marked(self, _: Any) -> None:
        items = self.marked()
        self.stack.append(tuple(items))

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def list_of_marked(self, _: Any) -> None:
        items = self.marked()
        self.stack.append(items)

    def dict_of_marked(self, _: Any) -> None:
        items = self.marked()
        self.stack.append({})
        self.set_items(items)

    def append(self, _: Any) -> None:
        self.extend([self.stack.pop()])

    def append_marked(self, _: Any) -> None:
        self.extend(self.marked())

    def extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def set_marked(self, _: Any) -> None:
        self.set_items(self.marked())

    def set_items(self, items: list[Any]) -> None:
        """Other keys than strings are left out: hashing nested tuples can take for ever."""
        if len(items) % 2:
            raise CorruptPickle("a key without a value")
        target = self.stack[-1]
        if isinstance(target, dict):
            target.update((key, value) for key, value in pairs(items) if isinstance(key, str))

    # ---- what other unpicklers import and call

    def named(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(Global(module, name))

    def named_by_stack(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        known = isinstance(module, str) and isinstance(name, str)
        self.stack.append(Global(module, name) if known else UNKNOWN)

    def made(self, callee: Any, arguments: Any) -> None:
        known = isinstance(callee, Global) and isinstance(arguments, tuple)
        self.stack.append(self.call(callee, arguments) if known else UNKNOWN)

    def reduce(self, _: Any) -> None:
        arguments, callee = self.stack.pop(), self.stack.pop()
        self.made(callee, arguments)

    def reduce_with_keywords(self, _: Any) -> None:
        self.stack.pop()
        self.reduce(None)

    def instance(self, argument: str) -> None:
        arguments = tuple(self.marked())
        module, _, name = argument.partition(" ")
        self.made(Global(module, name), arguments)

    def object(self, _: Any) -> None:
        callee, *arguments = self.marked()
        self.made(callee, tuple(arguments))

    def build(self, _: Any) -> None:
        """Sets the state of an object, which is ignored."""
        self.stack.pop()
        self.stack[-1]  # an IndexError where there is no object

    def persistent(self, argument: str) -> None:
        self.stack.append(self.refer(argument))

    def persistent_by_stack(self, _: Any) -> None:
        self.stack.append(self.refer(self.stack.pop()))


STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark, "POP": _Machine.pop, "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.duplicate,
    "PUT": _Machine.put, "BINPUT": _Machine.put, "LONG_BINPUT": _Machine.put, "MEMOIZE": _Machine.memoize,
    "GET": _Machine.get, "BINGET": _Machine.get, "LONG_BINGET": _Machine.get,
    "TUPLE": _Machine.tuple_of_marked,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": _Machine.list_of_marked, "FROZENSET": _Machine.list_of_marked, "DICT": _Machine.dict_of_marked,
    "APPEND": _Machine.append, "APPENDS": _Machine.append_marked, "ADDITEMS": _Machine.append_marked,
    "SETITEM": _Machine.set_item, "SETITEMS": _Machine.set_marked,
    "GLOBAL": _Machine.named, "STACK_GLOBAL": _Machine.named_by_stack,
    "REDUCE": _Machine.reduce, "NEWOBJ": _Machine.reduce, "NEWOBJ_EX": _Machine.reduce_with_keywords,
    "INST": _Machine.instance, "OBJ": _Machine.object, "BUILD": _Machine.build,
    "PERSID": _Machine.persistent, "BINPERSID": _Machine.persistent_by_stack,
}  # fmt: skip


def pairs(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    """[a, b, c, d] -> (a, b), (c, d)."""
    return zip(itertools.islice(items, 0, None, 2), itertools.islice(items, 1, None, 2))
