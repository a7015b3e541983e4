"""Named sets of values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import pytest

from pose import config
from pose.config_files import config_folder
from pose.decoders.paf_groups import PafGroupsSettings
from pose.decoders.tag_groups import TagGroupsSettings
from pose.errors import UserError
from pose.experiment import ExperimentConfig, load_config
from pose.heads.paf import PafSettings
from pose.predict.settings import TestSettings


class Recipe(config.PresetSettings):
    preset_folder: ClassVar[Path]
    former_presets: ClassVar[Mapping[str, str]] = {"hefty": "strong"}
    name: Literal["recipe"] = "recipe"
    preset: Literal["plain", "strong"] = "plain"
    power: int = 1
    salt: int = 0
    range: tuple[int, int] = (1, 2)


class Kitchen(config.Settings):
    recipe: Recipe = Recipe()


@pytest.fixture(autouse=True, scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> None:
    Recipe.preset_folder = folder = tmp_path_factory.mktemp("recipes")
    (folder / "strong.yaml").write_text("base: common.yaml\nrange: [7, 8]")
    (folder / "common.yaml").write_text("power: 9\nrange: [5, 6]")


def kitchen(*steps: dict[str, Any]) -> Recipe:
    merged = config.Merged(Kitchen)
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
    resolved = config.Merged(ExperimentConfig)
    resolved.put(config.to_plain(plain), "config.yaml")
    resolved.put({"head": {"decoder": {"preset": "s1_old"}}}, config.COMMAND_LINE)
    assert config.validate(ExperimentConfig, resolved).head.decoder == other.head.decoder


def test_a_resolved_preset_reads_back_to_the_same() -> None:
    strong = kitchen({"preset": "strong", "power": 2})
    assert kitchen(config.to_plain(strong)) == strong and config.to_plain(strong)["range"] == [7, 8]


SETTINGS: list[type[config.PresetSettings]] = [
    PafSettings,
    PafGroupsSettings,
    TagGroupsSettings,
    TestSettings,
]


def test_every_preset_is_a_file_and_every_file_a_preset() -> None:
    known = {cls.preset_folder for cls in SETTINGS}
    assert {folder.name for folder in (config_folder() / "_presets").iterdir()} == known
    for cls in SETTINGS:
        names = set(get_args(cls.model_fields["preset"].annotation))
        files = {file.stem for file in (config_folder() / "_presets" / cls.preset_folder).glob("*.yaml")}
        assert files == names - {"default"}
        assert cls.former_presets.keys().isdisjoint(names) and names.issuperset(cls.former_presets.values())
        for name in files:
            values = cls.preset_values(name)
            settings = cls.model_validate({"preset": name})
            assert values and cls.model_validate_json(json.dumps(values)) != cls()
            assert {key: config.to_plain(settings)[key] for key in values} == values
            given = {key: getattr(settings, key) for key in values}
            assert cls.model_validate({**given, "preset": name}) == settings


def test_the_section_of_a_default_component_is_found() -> None:
    merged = config.Merged(ExperimentConfig)
    merged.put({"head": {"name": "paf", "decoder": {"preset": "s1", "min_keypoints": 9}}}, "base.yaml")
    merged.put({"head": {"decoder": {"preset": "default"}}}, "child.yaml")
    assert merged.data["head"]["decoder"] == {"preset": "default"}
