"""The `data:` section: sets, skeleton, sampling; and where the files lie."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, model_validator

from pose.annotations.skeletons import read_skeleton
from pose.config import Counts, FilePath, Label, Settings
from pose.data.augment import AugmentSettings
from pose.errors import UserError
from pose.skeleton import Skeleton, from_dict
from pose.synthetic.dataset import SyntheticConfig


class SetSettings(Settings):
    """Where one set lies; `{year}` stands for data.year."""

    annotations: FilePath
    """COCO keypoint JSON."""
    images: FilePath
    """Folder of the images; or a .zip, a .tar, or a folder of .tar files, which are read in place."""
    root: FilePath | None = None
    """Folder that its paths are relative to; null = data.root."""


class MixedSetSettings(SetSettings):
    """One set of a mixture."""

    weight: float | None = Field(None, gt=0)
    """Its share of the training samples, relative to the weights of the others; null, for all sets: as many
    as it has pictures."""


class DerivedSettings(Settings):
    """A keypoint that no annotation has: the middle of others, labelled where all of them are."""

    middle_of: tuple[str, ...]
    """Names of annotated keypoints."""
    visible: Literal["any", "all"] = "any"
    """Visible where any of them or where all of them are, else occluded."""
    rounded: bool = False
    """To whole pixels, halves to the even one, as rtpose does."""


class SkeletonSettings(Settings):
    """The keypoints of the data set, as in `configs/_skeletons/`; `{base: NAME, ...}` takes those of a
    skeleton, or of the `annotations`, and replaces the keys that are given."""

    name: str = "custom"
    """For messages."""
    keypoints: tuple[str, ...]
    """Names, by which annotations are matched, whatever their order; left and right are read from them."""
    limbs: tuple[tuple[str, str], ...] = ()
    """Pairs of names that are joined."""
    sigmas: tuple[float, ...] | dict[str, float] | str = ()
    """COCO fall-off per keypoint, as a list or by name; empty: the same for all."""
    grouping_order: tuple[str, ...] = ()
    """Order in which keypoints are grouped to people; empty: along the limbs from the first keypoint."""
    mirror: dict[str, str] = {}
    """Mirror partners where the names do not tell."""
    derived: dict[str, DerivedSettings] = {}
    """Keypoints that the annotations do not have, worked out from others."""
    no_limbs: str = ""
    """Why there are no limbs, for the message of a head that needs them."""
    limb_order: tuple[tuple[str, str], ...] = ()
    """Order in which limbs join keypoints to people; empty: along `grouping_order`."""
    pairs: tuple[tuple[str, str], ...] = ()
    """Keypoints whose offsets from each other tell people apart (pairwise head); empty: those one or two
    limbs apart."""

    @model_validator(mode="after")
    def _check(self) -> SkeletonSettings:
        self.build()
        return self

    def build(self) -> Skeleton:
        return from_dict(self.model_dump())


class SyntheticSettings(Settings):
    """The drawn data set; see `pose.tools.synthesize`."""

    train: Annotated[int, Field(ge=0)] = 2000
    """Training pictures."""
    val: Annotated[int, Field(ge=0)] = 200
    """Validation pictures."""
    seed: Annotated[int, Field(ge=0)] = 1
    """Of the drawings."""
    size: Annotated[int, Field(ge=64, le=8192)] = 320
    """Long side in pixels."""
    max_people: Annotated[int, Field(ge=1, le=20)] = 5
    """Most people in one picture."""

    def build(self) -> SyntheticConfig:
        return SyntheticConfig(**self.model_dump())


class DataSettings(Settings):
    """The data set and how it is sampled."""

    synthetic: Annotated[SyntheticSettings | None, Counts.WITH_THE_DATA] = None
    """Draw people into `root` on first use instead of reading photos."""
    root: Annotated[FilePath, Counts.WITH_THE_DATA] = "data/coco"
    """Folder that the paths of the sets are relative to."""
    year: Annotated[int | None, Counts.WITH_THE_DATA] = None
    """Fills `{year}` in the paths of the sets."""
    train: Annotated[SetSettings, Counts.WITH_THE_DATA] = SetSettings(
        annotations="annotations/person_keypoints_train{year}.json", images="train{year}"
    )
    """The training set."""
    sets: tuple[MixedSetSettings, ...] = ()
    """Train on a mixture of these sets instead of `train`.  Keypoints go by name into `skeleton`; what a set
    never labels is not trained on its pictures, neither as there nor as absent."""
    val: Annotated[SetSettings, Counts.WITH_THE_DATA] = SetSettings(
        annotations="annotations/person_keypoints_val{year}.json", images="val{year}"
    )
    """The validation set."""
    category: Annotated[Label | None, Counts.WITH_THE_DATA] = None
    """Name or id of the category to take, where the annotations have several with different keypoints."""
    orientation: Annotated[Literal["auto", "stored", "exif"], Counts.WITH_THE_DATA] = "auto"
    """How photos with an EXIF turn are read: `stored` as the pixels lie in the file, as COCO means it, `exif`
    as viewers show them, `auto` as stored, but turned where only that makes the size fit the annotations."""
    skeleton: SkeletonSettings | None = None
    """The keypoints; none: as the training annotations describe them."""
    negatives: Annotated[float, Field(ge=0)] = 0.0
    """Pictures without people in each pass, as a fraction of the number of pictures with people."""
    max_people: Annotated[int, Field(gt=0)] = 30
    """People kept per picture, the first in the file."""
    subset: Annotated[int | None, Field(gt=0)] = None
    """Train on this many pictures with people only (of each set of a mixture), the same ones in every run."""
    validation_ids: FilePath | None = None
    """File (text or JSON) of image ids of the training annotations that make up the validation set instead of
    `val`, and are not trained on."""
    validation_people_only: Annotated[bool, Counts.WITH_THE_DATA] = False
    """Validate and test on the pictures with labelled people only; what is found on the others then does not
    count against AP."""
    strict: Annotated[bool, Counts.WITH_THE_DATA] = False
    """Stop at anything wrong with the data instead of repairing, counting and going on."""
    workers: Annotated[int | None, Field(ge=0), Counts.WITH_THE_DATA] = None
    """Processes that prepare samples, for each training process; none: one less than the cores, at most 8."""
    timeout: float = Field(1800, ge=0)
    """Seconds without a batch from the workers after which the command ends with a sentence; 0 = no limit."""
    augment: AugmentSettings = AugmentSettings()
    """Random changes to the training pictures."""
    cache: Annotated[bool, Counts.WITH_THE_DATA] = True
    """Keep the parsed annotations in a folder `.cache` beside the file."""

    @model_validator(mode="after")
    def _check_mixture(self) -> DataSettings:
        given = [one.weight is not None for one in self.sets]
        if any(given) and not all(given):
            raise ValueError("sets: give every set a weight, or none")
        if self.sets and self.skeleton is None:
            raise ValueError(
                "sets: they need a data.skeleton that names the keypoints of all, not that of one file"
            )
        if self.sets and self.validation_ids:
            raise ValueError("validation_ids: chosen from `train`, which `sets` replace; set one of the two")
        return self

    @property
    def mixed(self) -> bool:
        """Annotation files may have other keypoints than the skeleton."""
        return bool(self.sets)


class SetFiles(NamedTuple):
    annotations: Path
    images: Path


def set_files(settings: DataSettings, which: Literal["train", "val"]) -> SetFiles:
    """The paths of a set; with `validation_ids` both sets are in the training files."""
    source = settings.train if which == "train" or settings.validation_ids else settings.val
    return _files(source, settings, f"data.{which}")


def training_files(settings: DataSettings) -> list[SetFiles]:
    """The paths of all sets that are trained on."""
    if not settings.sets:
        return [set_files(settings, "train")]
    return [_files(one, settings, f"data.sets.{i}") for i, one in enumerate(settings.sets)]


def _files(source: SetSettings, settings: DataSettings, key: str) -> SetFiles:
    root, year, paths = settings.root if source.root is None else source.root, settings.year, []
    for name, text in (("annotations", source.annotations), ("images", source.images)):
        if "{year}" in text and year is None:
            raise UserError(
                f"{key}.{name} is {text!r}, but data.year is not set; set it, e.g. data.year=2017"
            )
        paths.append(Path(root) / text.replace("{year}", str(year)))
    return SetFiles(*paths)


def resolve_skeleton(settings: DataSettings, *, mirrored: bool = False) -> Skeleton:
    """The skeleton of the settings, or else of the training annotations; mirrored: see `read_skeleton`."""
    if settings.skeleton is not None:
        return settings.skeleton.build()
    files = set_files(settings, "train")
    return read_skeleton(files.annotations, settings.category, choose="data.category=NAME", mirrored=mirrored)
