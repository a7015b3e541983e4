"""pose.config: YAML, bases and overrides become typed settings, and mistakes become sentences."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union

import pytest
from pydantic import Field, ValidationError

from pose import config
from pose.config import Settings
from pose.errors import UserError
from pose.experiment import ExperimentConfig, load_config

ROOT = Path(__file__).parents[2]
SYNTHETIC = ROOT / "configs" / "synthetic" / "ae_small.yaml"
Write = Callable[..., Path]


class Big(Settings):
    name: Literal["big"] = "big"
    stacks: int = 4
    """How many."""
    width: int = 256


class Tiny(Settings):
    name: Literal["tiny"] = "tiny"
    width: int = 8


class Train(Settings):
    batch_size: int = Field(32, gt=0)
    lr: float = 1e-3
    note: str = ""
    """Free text."""
    scales: tuple[float, ...] = (1.0,)
    limit: int | None = None
    flip: bool = True


class Config(Settings):
    backbone: Annotated[Union[Big, Tiny], Field(discriminator="name")]  # noqa: UP007
    train: Train = Train()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, text: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_file


def mistakes(path: Path | None, *overrides: str, schema: type[Settings] = Config) -> str:
    with pytest.raises(UserError) as caught:
        config.load(schema, path, overrides)
    return str(caught.value)


# ------------------------------------------------------------------------------------- bases and overrides


def test_the_child_wins_key_by_key_and_later_bases_over_earlier(write: Write) -> None:
    write("low/one.yaml", "backbone: {name: big, stacks: 1, width: 1}\ntrain: {batch_size: 1, lr: 0.1}")
    write("two.yaml", "backbone: {width: 2}\ntrain: {batch_size: 2}")
    top = write("top.yaml", "base: [low/one.yaml, two.yaml]\ntrain: {batch_size: 3}")
    loaded = config.load(Config, top)
    assert loaded.backbone == Big(stacks=1, width=2)
    assert loaded.train == Train(batch_size=3, lr=0.1)


@pytest.mark.parametrize("how", ["file", "override", "mapping"])
def test_a_section_with_another_name_replaces_the_whole_section(write: Write, how: str) -> None:
    base = write("base.yaml", "backbone: {name: big, stacks: 9, width: 99}")
    text = "backbone: {name: tiny}" if how == "file" else ""
    top = write("top.yaml", f"base: base.yaml\n{text}")
    overrides = {"file": [], "override": ["backbone.name=tiny"], "mapping": ["backbone={name: tiny}"]}[how]
    assert config.load(Config, top, overrides).backbone == Tiny()
    assert config.load(Config, base, ["backbone.name=big"]).backbone == Big(stacks=9, width=99)


@pytest.mark.parametrize("order", [1, -1])
def test_overrides_may_stand_in_any_order(write: Write, order: int) -> None:
    base = write("base.yaml", "backbone: {name: big, stacks: 9}")
    overrides = ["backbone.width=5", "backbone.name=tiny"][::order]
    assert config.load(Config, base, overrides).backbone == Tiny(width=5)


def test_a_base_without_a_name_completes_the_section(write: Write) -> None:
    write("wide.yaml", "backbone: {width: 7}")
    top = write("top.yaml", "base: wide.yaml\nbackbone: {name: tiny}")
    assert config.load(Config, top).backbone == Tiny(width=7)


def test_bases_in_a_circle_are_named(write: Write) -> None:
    a = write("a.yaml", "base: sub/b.yaml")
    write("sub/b.yaml", "base: ../a.yaml")
    assert "a.yaml -> b.yaml -> a.yaml" in mistakes(a)
    assert "own.yaml -> own.yaml" in mistakes(write("own.yaml", "base: own.yaml"))


def test_one_base_by_two_ways_is_no_circle(write: Write) -> None:
    write("root.yaml", "backbone: {name: tiny}")
    write("x.yaml", "base: root.yaml\ntrain: {lr: 0.5}")
    write("y.yaml", "base: root.yaml")
    assert config.load(Config, write("top.yaml", "base: [x.yaml, y.yaml]")).train.lr == 0.5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("train.lr=2e-4", 2e-4),
        ("train.lr=1E5", 1e5),
        ("train.lr=-3e+2", -300.0),
        ("train.lr=1", 1.0),
        ("train.lr= 0.5 ", 0.5),
        ("train.scales=[1, 2e-1]", (1.0, 0.2)),
        ("train.limit=null", None),
        ("train.limit=", None),
        ("train.limit=7", 7),
        ("train.flip=false", False),
        ("train.note=a=b", "a=b"),
        ("train.note='1e5'", "1e5"),
        ("train.note=2020-01-01", "2020-01-01"),
        ("train={lr: 0.25}", None),
    ],
)
def test_the_value_of_an_override_is_yaml(text: str, value: Any) -> None:
    loaded = config.load(Config, None, ["backbone.name=tiny", text])
    key = text.partition("=")[0].removeprefix("train.")
    assert loaded.train.lr == 0.25 if key == "train" else getattr(loaded.train, key) == value


@pytest.mark.parametrize("text", ["train", "=3", "train.=3", ".lr=3", "a..b=3", ""])
def test_an_override_without_a_key_or_value(text: str) -> None:
    assert "write it as key.sub=value" in mistakes(None, text)


def test_an_override_below_a_plain_value() -> None:
    message = mistakes(None, "train.lr=3", "train.lr.x=3")
    assert "command line" in message and "train.lr has no keys below it" in message


# ------------------------------------------------------------------------------------------------- mistakes


def test_all_mistakes_at_once_as_the_user_sees_them(write: Write) -> None:
    text = (
        "base: [../configs/synthetic/ae_small.yaml]\n"
        "backbone: {name: hourglas}\nhead: {decoder: {tag_treshold: 1.0}}\ntrain: {batch_size: True}\n"
    )
    path = write("broken.yaml", text.replace("../configs/synthetic/ae_small.yaml", str(SYNTHETIC)))
    with pytest.raises(UserError) as caught:
        load_config(path)
    first, file, *lines = str(caught.value).splitlines()
    assert (first, file) == ("the config has mistakes", f"{path}:")
    assert "  train.batch_size: expected int, got True" in lines
    assert "  head.decoder.tag_treshold: unknown key, did you mean 'tag_threshold'?" in lines
    assert any(
        line.startswith("  backbone.name: unknown backbone 'hourglas', did you mean 'hourglass'? (known: ")
        for line in lines
    )
    assert len(lines) == 3


def test_a_mistake_is_attributed_to_what_set_it(write: Write) -> None:
    base = write("base.yaml", "backbone: {name: tiny, widht: 3}\ntrain: {lr: fast, 7: 1}")
    middle = write("middle.yaml", "base: base.yaml\ntrain: {scales: [1, x], 8: 1}")
    message = mistakes(write("top.yaml", "base: middle.yaml\ntrain: {flip: 1}"), "train.limit=1.5")
    blocks: dict[str, list[str]] = {}
    for line in message.splitlines()[1:]:
        if not line.startswith("  "):
            blocks[line.removesuffix(":")] = current = []
        else:
            current.append(line.strip().partition(":")[0])
    assert sorted(blocks[str(base)]) == ["backbone.widht", "train.7", "train.lr"]
    assert sorted(blocks[str(middle)]) == ["train.8", "train.scales.1"]
    assert blocks[str(base.parent / "top.yaml")] == ["train.flip"]
    assert blocks["command line"] == ["train.limit"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.batch_size=true"], "train.batch_size: expected int, got True"),
        (["train.batch_size=4.0"], "train.batch_size: expected int"),
        (["train.batch_size=0"], "train.batch_size: input should be greater than 0, got 0"),
        (["train.flip=1"], "train.flip: expected true or false, got 1"),
        (["train.lr=.nan"], "train.lr: input should be a finite number, got nan"),
        (["train.lr=.inf"], "train.lr: input should be a finite number"),
        (["train.note=3"], "train.note: expected text, got 3"),
        (["train.scales=1"], "train.scales: expected a list, got 1"),
        (["train.scales=[1, [2]]"], "train.scales.1: expected float, got [2]"),
        (["train="], "train: expected a mapping, got None"),
        (["train=[]"], "train: expected a mapping, got []"),
        (["backbone=tiny"], "backbone: expected a mapping, got 'tiny'"),
        (
            ["backbone.name=tinny"],
            "backbone.name: unknown backbone 'tinny', did you mean 'tiny'? (known: big, tiny)",
        ),
        (["backbone.name=3"], "backbone.name: unknown backbone 3"),
        (["backbone={width: 3}"], "backbone.name: missing"),
        (["backbone={name: big, stacks: x}"], "backbone.stacks: expected int, got 'x'"),
        (["backbone={name: tiny, stacks: 3}"], "backbone.stacks: unknown key (known: name, width)"),
        (["trian.lr=3"], "trian: unknown key, did you mean 'train'?"),
    ],
)
def test_each_mistake_is_a_sentence_with_its_place(overrides: list[str], message: str) -> None:
    name = [] if any(o.startswith("backbone") for o in overrides) else ["backbone.name=tiny"]
    lines = mistakes(None, *name, *overrides).splitlines()
    assert len(lines) == 3 and lines[1] == "command line:" and lines[2].strip().startswith(message), lines


@pytest.mark.parametrize("text", ["3", "paf_groups", "[]", "null"])
def test_a_section_with_a_default_name_must_be_a_mapping_too(text: str) -> None:
    path = ROOT / "configs" / "synthetic" / "paf_small.yaml"
    told = mistakes(path, f"head.decoder={text}", schema=ExperimentConfig)
    assert "head.decoder: expected a mapping, got" in told


def test_a_section_that_is_missing() -> None:
    assert "backbone: missing" in mistakes(None, "train.lr=1.0")


def aliases(pattern: str) -> str:
    """Ten lines, each of which repeats the one before it nine times: 9 ** 10 values."""
    lines = ["a: &a {x: 1}"]
    lines += [f"{here}: &{here} {pattern.format(there)}" for there, here in zip("abcdefghij", "bcdefghijk")]
    return "\n".join(lines)


def test_files_without_an_end_are_refused(write: Write) -> None:
    path = write("config.yaml", "base: [/dev/zero]")
    assert "/dev/zero: it is no regular file" in mistakes(path)
    os.mkfifo(path.with_name("pipe.yaml"))
    assert "it is no regular file" in mistakes(path.with_name("pipe.yaml"))


def test_a_name_that_no_file_can_have(write: Write) -> None:
    assert "data.root: no file name" in mistakes(
        write("c.yaml", 'data: {root: "a\\0b"}'), schema=ExperimentConfig
    )
    assert "'a\\x00b' is a name that no file can have" in mistakes(write("d.yaml", 'base: "a\\0b"'))
    assert "no config file" in mistakes(write("e.yaml", "base: ~nobody_of_this_name/a.yaml"))


def test_aliases_are_counted_and_not_written_out() -> None:
    shared = config.parse_yaml("a: &a [1, 2]\nb: [*a, *a]\nc: {<<: {d: *a}}", "here")
    assert shared == {"a": [1, 2], "b": [[1, 2], [1, 2]], "c": {"d": [1, 2]}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "train: {lr: 1.0}\ntrain: {lr: 2.0}",
            "line 2: not readable as YAML: the key 'train' stands here twice",
        ),
        ("train:\n  lr: 1.0\n  lr: 1.0", "line 3"),
        ("train:\n\tlr: 3", "line 2: not readable as YAML: found character '\\t'"),
        ("train: [1,\nlr: 3", "not readable as YAML"),
        ("- 1\n- 2", "expected a mapping of names at the top, got list"),
        ("just words", "expected a mapping of names at the top, got str"),
        ("3: 4", "expected a mapping of names at the top"),
        (b"note: \xff\xfe\xfa", "cannot read"),
        (
            "train: !!python/object/apply:os.system ['true']",
            "line 1: not readable as YAML: could not determine",
        ),
        ("train: !!python/name:os.system", "not readable as YAML"),
        ("? [a, b]\n: 3", "a key must be a name"),
        ("train: &a {lr: *a}", "not readable as YAML"),
        ("train: &a [*a]", "not readable as YAML"),
        ("train: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("train: {batch_size: " + "1" * 5000 + "}", "not readable as YAML"),
        ("train: {lr: !!timestamp 2020-01-01}", "not plain data"),
        ("train: !!timestamp x", "line 1: not readable as YAML: 'x' is no timestamp"),
        ("train:\n  lr: !!bool x", "line 2: not readable as YAML: 'x' is no bool"),
        ("train: !!int ''", "'' is no int"),
        ("train: !!map [1]", "expected a mapping node"),
        ("? !!set {a}\n: 3", "a key must be a name"),
        ("train: {lr: " + ":".join(["1"] * 100_000) + "}", "a number of 199999 characters"),
        ("train: [" + "1," * 100_001 + "]", "more than 100000 values"),
        (aliases("[*{0},*{0},*{0},*{0},*{0},*{0},*{0},*{0},*{0}]"), "more than 100000 values"),
        (aliases("{{<<: [*{0},*{0},*{0},*{0},*{0},*{0},*{0},*{0},*{0}]}}"), "more than 100000 values"),
        ("train: 1 #" + " " * (1 << 20), "too large for a config"),
        ("base: 3", "`base:` is a file name or a list of file names"),
        ("base: [bsae.yaml]", "did you mean"),
        ("base: .", "cannot read"),
    ],
)
def test_a_file_that_is_no_config(write: Write, text: str | bytes, message: str) -> None:
    write("base.yaml", "backbone: {name: tiny}")
    assert message in mistakes(write("bad.yaml", text))


def test_a_missing_file_names_the_nearest(write: Write) -> None:
    there = write("ae_hourglass.yaml", "")
    assert f"did you mean {there}?" in mistakes(there.with_name("ae_hourglas.yaml"))
    assert "no config file" in mistakes(there.parent / "no" / "where.yaml")


def test_yaml_merge_keys_work(write: Write) -> None:
    path = write("m.yaml", "backbone: &b {name: tiny, width: 3}\n")
    path.write_text(path.read_text() + "train:\n  <<: {lr: 0.5, note: below}\n  note: above\n")
    assert config.load(Config, path).train == Train(lr=0.5, note="above")


# ---------------------------------------------------------------------------------------- what comes out


@pytest.mark.parametrize(
    "note",
    [
        "",
        "1e5",
        "2e-4",
        "true",
        "null",
        "a: b",
        "# no",
        "ü ✓",
        "2020-01-01",
        "two\nlines",
        "'\"",
        " x ",
        "0x1",
    ],
)
def test_what_is_written_is_read_back(write: Write, note: str) -> None:
    one = Config(backbone=Big(stacks=1), train=Train(note=note, lr=1e-7, scales=(0.1, 1e20), limit=3))
    path = write("again.yaml", config.to_yaml(one))
    assert config.load(Config, path) == one
    assert config.load(Config, write("plain.yaml", config.to_yaml(config.load(Config, path)))) == one


def test_what_is_described_is_read_back(write: Write) -> None:
    one = Config(backbone=Big(stacks=1), train=Train(note="# 1e5"))
    text = config.describe(one)
    assert "stacks: 1  # How many." in text
    assert config.load(Config, write("described.yaml", text)) == one


def test_settings_are_frozen() -> None:
    one = Config(backbone=Tiny())
    with pytest.raises(ValidationError):
        one.train = Train()  # type: ignore[misc]


def leaves(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in data.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))


JUNK: list[Any] = [
    None,
    True,
    3,
    -1,
    0,
    2.5,
    math.nan,
    math.inf,
    1e308,
    10**30,
    "text",
    "",
    [],
    [1],
    ["a", 2],
    {},
    {"name": "x"},
    {"a": {"b": 1}},
    [[]],
    [None],
    "../..",
    "\x00",
    [1.0, "x", {}],
]


@pytest.mark.slow
def test_junk_anywhere_gives_settings_or_a_message_that_names_the_place() -> None:
    plain = config.to_plain(load_config(SYNTHETIC))
    rng = random.Random(0)
    cases = [(path, junk) for path in leaves(plain) for junk in JUNK]
    refused = 0
    for path, junk in rng.sample(cases, 700):
        merged = config.Merged()
        merged.put(plain, "base")
        node = merged.data
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = junk
        try:
            loaded = config.validate(ExperimentConfig, merged)
        except UserError as error:
            refused += 1
            places = [line.strip().partition(":")[0] for line in str(error).splitlines()[2:]]
            dotted = ".".join(path)  # or a section around it, or a value inside it
            assert places and all(
                f"{dotted}.".startswith(f"{place}.") or place.startswith(f"{dotted}.") for place in places
            ), (path, junk, places)
        else:
            merged = config.Merged()
            merged.put(config.parse_yaml(config.to_yaml(loaded), "written"), "written")
            assert config.validate(ExperimentConfig, merged) == loaded
    assert refused > 350


def test_text_at_random_never_crashes(write: Write) -> None:
    rng = random.Random(1)
    good = SYNTHETIC.read_text(encoding="utf-8").replace("base: ", "bas: ")
    pieces = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "&a",
        "*a",
        "<<",
        "!!int",
        "\t",
        "\n",
        "'",
        '"',
        "- ",
        "? ",
        "|",
        "\x07",
        "é",
        "%",
    ]
    for _ in range(150):
        text = list(good)
        for _ in range(rng.choice([1, 3, 10])):
            at = rng.randrange(len(text))
            text[at : at + rng.randrange(4)] = rng.choice(pieces)
        path = write("fuzz.yaml", "".join(text))
        with pytest.raises(UserError):
            config.load(ExperimentConfig, path)


# ------------------------------------------------------------------------------------------------- presets


class Recipe(config.PresetSettings):
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "plain": {},
        "strong": {"power": 9, "range": (7, 8)},
    }
    former_presets: ClassVar[Mapping[str, str]] = {"hefty": "strong"}
    name: Literal["recipe"] = "recipe"
    preset: Literal["plain", "strong"] = "plain"
    power: int = 1
    salt: int = 0
    range: tuple[int, int] = (1, 2)


class Kitchen(config.Settings):
    recipe: Recipe = Recipe()


def kitchen(*steps: dict[str, Any]) -> Recipe:
    merged = config.Merged()
    for number, step in enumerate(steps):
        merged.put({"recipe": step}, f"{number}.yaml")
    return config.validate(Kitchen, merged).recipe


def test_a_preset_fills_what_is_not_given() -> None:
    assert kitchen({"preset": "strong"}) == Recipe(power=9, range=(7, 8), preset="strong")
    assert kitchen({"preset": "strong", "range": [3, 4]}).range == (3, 4)
    assert kitchen({"range": [3, 4]}).power == 1
    with pytest.raises(UserError, match=r"recipe.preset: expected 'plain' or 'strong', got 'weak'"):
        kitchen({"preset": "weak"})


def test_another_preset_drops_of_the_base_what_presets_set() -> None:
    base = {"name": "recipe", "preset": "strong", "power": 5, "range": [5, 6], "salt": 7}
    assert kitchen(base, {"preset": "plain"}) == Recipe(salt=7)
    assert kitchen(base, {"preset": "plain", "power": 3}) == Recipe(power=3, salt=7)
    assert kitchen(base, {"preset": "strong"}).power == 5
    assert kitchen({"power": 5}, {"preset": "strong"}).power == 9
    named = {"name": "recipe", "power": 5}
    assert kitchen(named, {"preset": "plain"}).power == 5  # it is the preset already


def test_the_former_name_of_a_preset_is_the_preset() -> None:
    assert kitchen({"preset": "hefty"}) == kitchen({"preset": "strong"})
    base = {"name": "recipe", "preset": "hefty", "power": 5}
    assert kitchen(base, {"preset": "strong"}).power == kitchen(base, {"preset": "hefty"}).power == 5
    assert kitchen({**base, "preset": "strong"}, {"preset": "hefty"}).power == 5
    assert kitchen(base, {"preset": "plain"}).power == 1
    old_run = {**config.to_plain(kitchen({"preset": "strong", "power": 2})), "preset": "hefty"}
    assert kitchen(old_run) == kitchen({"preset": "strong", "power": 2})
    for given in (3, ["hefty"], None):
        with pytest.raises(UserError, match="recipe.preset"):
            kitchen({"preset": given})


def test_a_preset_on_the_command_line_keeps_what_the_file_says_beside_it() -> None:
    file = ["head.preset=s1", "head.decoder.preset=s1_old"]
    plain, other = load_config("synthetic/paf_small.yaml"), load_config("synthetic/paf_small.yaml", file)
    assert other.head.paf_grid == "corner" and plain.head.paf_grid == "centered"
    assert (other.head.sigma, other.head.paf_weight) == (plain.head.sigma, plain.head.paf_weight)
    assert other.head.decoder.detection_threshold == plain.head.decoder.detection_threshold
    assert other.head.decoder.assembly == "s1_old"
    resolved = config.Merged()
    resolved.put(config.to_plain(plain), "config.yaml")
    resolved.put({"head": {"decoder": {"preset": "s1_old"}}}, config.COMMAND_LINE)
    assert config.validate(ExperimentConfig, resolved).head.decoder == other.head.decoder


def test_a_resolved_preset_reads_back_to_the_same() -> None:
    strong = kitchen({"preset": "strong", "power": 2})
    assert kitchen(config.to_plain(strong)) == strong and config.to_plain(strong)["range"] == [7, 8]
