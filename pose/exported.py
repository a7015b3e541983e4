"""Networks that pose.tools.export wrote, ONNX or TorchScript: run where no weights of a run are at hand.

The file holds the run's config (without its paths) beside the graph, so that the people of a picture are
found from the file alone.  It computes in float32, whatever `test.precision` says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field, TypeAdapter
from torch import Tensor, nn

from pose import checkpoint
from pose import config as cfg
from pose.errors import UserError
from pose.experiment import Experiment, ExperimentConfig
from pose.graphs import IMAGES, quiet
from pose.heads.base import Head
from pose.model import LevelMean, PoseModel
from pose.registry import HEADS
from pose.skeleton import to_dict
from pose.structures import Fields

FORMAT = "1"
NOTES = "bottomup_pose"  # under this name the file holds its `Notes`, as JSON
NETWORK = ("input", "backbone", "neck", "predictor", "head")  # sections of a config that a graph depends on


@dataclass(frozen=True)
class Notes:
    """What an exported file knows of itself."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    name: str  # of the run
    config: str  # of the run, YAML: see `config_to_keep`
    statistics: str  # what the head knows of its data set: see `Head.constants`
    fields: list[str]  # in the order of the outputs
    strides: Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=1)]  # of the network's stages
    size_multiple: Annotated[int, Field(gt=0)]
    weights: str  # the checkpoint's file name
    sha256: str  # see `fingerprint`
    version: str  # of this package
    format: str = FORMAT


NOTES_CONTENT = TypeAdapter(Notes)


class Network(nn.Module):
    """In the place of a backbone: runs the graph."""

    def __init__(self, run: Callable[[Tensor], Sequence[Tensor]], notes: Notes) -> None:
        super().__init__()
        self.run = run
        self.names = notes.fields
        self.strides = tuple(notes.strides)
        self.size_multiple = notes.size_multiple

    def forward(self, images: Tensor) -> Fields:
        """images (B, 3, H, W) uint8 RGB -> {field: (B, C, h, w)}, read out."""
        return dict(zip(self.names, self.run(images), strict=True))


class ExportedModel(PoseModel):
    """A `PoseModel` whose network is an exported file.  Its stages are one, and that is read out already."""

    def __init__(self, network: Network, head: Head, config: ExperimentConfig, notes: Notes) -> None:
        super().__init__(network, head, config.input)
        self.notes = notes

    def forward(self, images: Tensor) -> list[Fields]:
        return [self.backbone(images)]

    def read_levels(
        self, images: Tensor, precision: str = "fp32", level_mean: LevelMean = "finest"
    ) -> list[Fields]:
        return [self.backbone(images)]


def load_exported(
    file: Path | str,
    experiment: Experiment | None = None,
    settings: Sequence[str] = (),
    device: torch.device | str = "cpu",
) -> tuple[ExportedModel, ExperimentConfig]:
    """The model in an exported file, and the config that it is used with.

    experiment: the run that the file must be of, whose config then counts; None: the config in the file.
    settings: `test.*` and `head.decoder.*`, above the config in the file.  device: of a TorchScript file;
    ONNX runs on the CPU.  Raises `UserError` for a file that cannot be run, or is of another run."""
    file, device = Path(file), torch.device(device)
    run, text = _open(file, device)
    notes = _notes(text, file)
    if experiment is None:
        config = _config(notes, file, settings)
    else:
        _same_run(file, notes, experiment)
        config = experiment.config
    head = _head(config, notes, file)
    if [*head.fields] != notes.fields:
        raise UserError(
            f"{file} gives {', '.join(notes.fields)}, but the head {config.head.name!r} reads "
            f"{', '.join(head.fields)}; {advice(notes.name)}"
        )
    return ExportedModel(Network(run, notes), head, config, notes).to(device).eval(), config


def advice(name: str) -> str:
    return f"export it again with python -m pose.tools.export -c {name}"


def fingerprint(weights: Mapping[str, Tensor], constants: str) -> str:
    """SHA-256 of a network's tensors by name, and of what its head knows of the data set."""
    digest = hashlib.sha256(constants.encode())
    named = {checkpoint.strip_wrappers(name): value for name, value in weights.items()}
    named = {name: value for name, value in named.items() if not name.startswith("head.")}  # the constants
    for name, value in sorted(named.items()):
        digest.update(f"{name} {tuple(value.shape)} ".encode())
        digest.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def config_to_keep(config: ExperimentConfig) -> str:
    """What finding people needs of a config, as JSON (which is YAML too): files are given away, so the data
    set, the training and the paths of this machine stay out."""
    plain = cfg.to_plain(config)
    plain["data"] = {"skeleton": to_dict(config.skeleton)}
    del plain["train"]
    plain["backbone"].pop("pretrained", None)
    for (key,) in cfg.keys_that_count(type(config.head), cfg.Counts.ONLY_AT_START):
        plain["head"].pop(key, None)
    return json.dumps(plain)


# ---------------------------------------------------------------------------------------------- the two kinds


def is_onnx(file: Path | str) -> bool:
    """Whether a file is to be run by onnxruntime; TorchScript files are zip archives.  Raises `UserError`."""
    try:
        with open(file, "rb") as content:
            return content.read(2) != b"PK"
    except OSError as error:
        raise UserError(f"cannot read the exported network {file}: {error.strerror}") from None


def _open(file: Path, device: torch.device) -> tuple[Callable[[Tensor], Sequence[Tensor]], str | None]:
    """What runs the graph of a file of either kind, and its notes."""
    return open_onnx(file, device) if is_onnx(file) else _open_torchscript(file, device)


def open_onnx(file: Path, device: torch.device) -> tuple[Callable[[Tensor], Sequence[Tensor]], str | None]:
    try:
        import onnxruntime
    except ImportError:
        raise UserError("an ONNX file needs onnxruntime: pip install 'bottomup-pose[export]'") from None
    if device.type != "cpu":
        raise UserError(f"{file}: ONNX files run on the CPU; for {device} export with --format torchscript")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what is wrong is raised too
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the classes of onnxruntime's errors have no public name
        raise UserError(_why_not_onnx(file, str(error), onnxruntime.__version__)) from None

    def run(images: Tensor) -> list[Tensor]:
        return [torch.from_numpy(maps) for maps in session.run(None, {IMAGES: images.numpy()})]

    return run, session.get_modelmeta().custom_metadata_map.get(NOTES)


def _why_not_onnx(file: Path, reason: str, version: str) -> str:
    lowered = reason.lower()
    if "opset" in lowered or "ir version" in lowered:
        return (
            f"{file} is of a newer ONNX than onnxruntime {version} runs; pip install -U onnxruntime, or "
            "export it again with pose.tools.export"
        )
    if "protobuf" in lowered or not file.stat().st_size:
        return f"{file} is not an ONNX file, or was cut off; copy it again, or export it again"
    return f"onnxruntime {version} cannot run {file}: {reason.splitlines()[0][:200]}; export it again"


def _open_torchscript(
    file: Path, device: torch.device
) -> tuple[Callable[[Tensor], Sequence[Tensor]], str | None]:
    notes: dict[str, Any] = {NOTES: ""}
    try:
        with quiet():
            module = torch.jit.load(str(file), map_location=device, _extra_files=notes)
    except (RuntimeError, ValueError):
        raise UserError(
            f"{file} is not a TorchScript file, or was cut off; a run's weights (best.pt) need no export: "
            "take the run itself with -c NAME"
        ) from None
    text = notes[NOTES]
    return module, (text.decode("utf-8") if isinstance(text, bytes) else text) or None


# ----------------------------------------------------------------------------------------- what the file says


def to_text(notes: Notes) -> str:
    return json.dumps(asdict(notes))


def _notes(text: str | None, file: Path) -> Notes:
    if text is None:
        raise UserError(f"{file} was not written by pose.tools.export: it does not say how to read its maps")
    try:
        content = json.loads(text)
        known = content["format"] == FORMAT
        notes = NOTES_CONTENT.validate_json(text) if known else None
    except (ValueError, KeyError, TypeError):  # pydantic's errors are ValueErrors
        raise UserError(f"{file} holds notes that cannot be read; export it again") from None
    if notes is None:
        raise UserError(
            f"{file} is of another version of this package ({content.get('version')}); export it again"
        )
    return notes


def _config(notes: Notes, file: Path, settings: Sequence[str]) -> ExperimentConfig:
    data = cfg.parse_yaml(notes.config, str(file))
    if not isinstance(data, dict) or not isinstance(data.get("head"), dict):
        raise UserError(f"{file} holds notes that cannot be read; export it again")
    merged = cfg.Merged(ExperimentConfig)
    merged.put(data, str(file))
    return cfg.validate(ExperimentConfig, cfg.override(merged, settings)).of_a_run()


def _head(config: ExperimentConfig, notes: Notes, file: Path) -> Head:
    head: Head = HEADS.build(config.head, config.skeleton, config.input.layout)
    head.use_constants(notes.statistics, file)
    return head


def _same_run(file: Path, notes: Notes, experiment: Experiment) -> None:
    """Raises `UserError` for a file of another run, or of other weights than the run has now."""
    own, name = experiment.config, experiment.folder.name
    theirs = _config(notes, file, ())
    mine, other = cfg.to_plain(own), cfg.to_plain(theirs)
    changeable = [
        key
        for when in (cfg.Counts.ONLY_AT_START, cfg.Counts.AFTER_TRAINING)
        for (key,) in cfg.keys_that_count(type(own.head), when)
    ]
    for plain in (mine, other):
        for key in changeable:
            plain["head"].pop(key, None)
        plain["backbone"].pop("pretrained", None)
        plain["input"].pop("size", None)
    different = [section for section in NETWORK if mine[section] != other[section]]
    if own.skeleton != theirs.skeleton:
        different.append("data.skeleton")
    if different:
        raise UserError(
            f"{file} was exported from another run ({notes.name}), whose {' and '.join(different)} "
            f"{'differ' if len(different) > 1 else 'differs'}; export this one with python -m "
            f"pose.tools.export -c {name}, or leave -c out"
        )
    if not _has_weights(experiment, notes):
        raise UserError(
            f"{file} was exported from {notes.name} with other weights ({notes.weights}) than {name} has "
            f"now; export this one with python -m pose.tools.export -c {name}, or leave -c out"
        )


def _has_weights(experiment: Experiment, notes: Notes) -> bool:
    """Whether the run's weights are those in the file; a run without weights is believed."""
    files = [experiment.path(name) for name in dict.fromkeys([notes.weights, "best.pt", "last.pt"])]
    there = [file for file in files if file.is_file()]
    return not there or any(_is_of(experiment.read_weights(file), experiment, notes) for file in there)


def _is_of(weights: Mapping[str, Tensor], experiment: Experiment, notes: Notes) -> bool:
    """Whether a file with these notes was exported from these weights."""
    config = experiment.config
    head: Head = HEADS.build(config.head, config.skeleton, config.input.layout)
    own = {name[5:]: value for name, value in weights.items() if name.startswith("head.")}
    head.load_state_dict(own, strict=False)
    beside = head.restore(experiment.folder)  # as it is: what older versions took into the fingerprint
    return notes.sha256 in {fingerprint(weights, text) for text in (head.constants(), beside)}
