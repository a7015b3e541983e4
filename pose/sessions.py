"""From a config to the things that a session works with: data, loaders, validation, a run's model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pose import checkpoint, geometry
from pose.annotations.reader import read
from pose.data.augment import DeviceAugment, no_augmentation
from pose.data.dataset import FIRST, KeypointDataset, check_files
from pose.data.images import Orientation, SetImage, read_of_size, wrong_size
from pose.data.loader import Loaded, collate, default_workers, train_loader
from pose.data.mixture import MixedStream, Training, training_data
from pose.data.selection import open_annotations, validation_images, warn_of_sides
from pose.data.settings import set_files
from pose.draw.people import Style, draw_people
from pose.draw.sheets import contact_sheet
from pose.engine.distributed import Processes
from pose.engine.log import Log
from pose.engine.validation_loss import mean_loss
from pose.errors import UserError
from pose.experiment import Experiment, ExperimentConfig
from pose.metrics.base import Metric, Scores, bind
from pose.model import PoseModel, autocast, resolve_precision
from pose.panels import Painter, as_bytes, of_first, target_of, true_people
from pose.predict.predict_set import predict_set
from pose.structures import Batch, People
from pose.synthetic import dataset as synthetic

SHEET = 8  # images drawn at every validation
PANELS = 4  # training samples whose fields are drawn in the course of the training
PANEL_CHOICE = 64  # samples from which these are chosen
PANEL_SIDE = 224  # pixels
PREPARING = 20_000  # training samples that a head may look at before a new run


def test_workers(config: ExperimentConfig) -> int:
    """Processes that read and letterbox images for testing."""
    return default_workers() if config.data.workers is None else config.data.workers


@dataclass(frozen=True)
class TrainingData:
    """The training images in their endless order, and the images of validation."""

    config: ExperimentConfig
    training: Training
    validation: list[SetImage]
    metric: Metric | None = None  # that they are scored by, in the process that scores

    @property
    def pass_length(self) -> int:
        return len(self.training.stream)

    @property
    def summary(self) -> str:
        """What a pass over the data holds."""
        dataset, stream = self.training
        if isinstance(stream, MixedStream):
            named = [Path(one.annotations).name for one in self.config.data.sets]
            counts = [f"{count} of {name}" for count, name in zip(stream.counts, named, strict=True)]
            return f"{len(stream)} pictures per pass ({', '.join(counts)})"
        people, without = len(stream.positive), stream.num_negative
        unused = len(dataset) - people - without
        return f"{people} pictures with people and {without} without per pass ({unused} not used)"

    def loader(self, start_step: int, batch_size: int, group: Processes) -> Iterable[Loaded]:
        """This process's share of every global batch of `batch_size`, from `start_step` on."""
        return train_loader(
            self.training.dataset,
            self.training.stream,
            batch_size // group.world_size,
            rank=group.rank,
            world_size=group.world_size,
            start_step=start_step,
            workers=self.config.data.workers,
            device=group.device,
            timeout=self.config.data.timeout,
        )


def draw_synthetic(config: ExperimentConfig, group: Processes) -> None:
    """Makes the drawn data set on first use, where the config asks for it."""
    wanted = config.data.synthetic
    if wanted is not None:
        group.first(lambda: synthetic.ensure(Path(config.data.root), wanted.build()))


def validation_set(
    config: ExperimentConfig, group: Processes, limit: int | None, *, trained: bool = True
) -> list[SetImage]:
    """The validation images, or a fixed random subset.  trained: of a run that is only tested."""

    def read() -> list[SetImage]:
        if config.test.flip:
            warn_of_sides(config.skeleton, trained=trained)
        images = validation_images(config.data, config.skeleton, limit=limit)
        check_pictures(images, config)
        return images

    return group.main_first(read)


def check_pictures(images: Sequence[SetImage], config: ExperimentConfig) -> None:
    """Wrong paths and images of another size are found before the training, not at its first validation."""
    files, first = set_files(config.data, "val"), images[:FIRST]
    names = [str(one.path).removeprefix(f"{files.images}/") for one in first]
    try:
        check_files(files.images, names, files.annotations)
    except UserError as error:
        raise UserError(f"validation: {error} (data.val.images)") from None
    if not images:
        raise UserError(f"validation: {files.annotations} has no images; check data.val.annotations")
    wrong = [text for one in first if (text := wrong_size(one, config.data.orientation))]
    if len(wrong) == len(first):
        raise UserError(
            f"validation: the first {len(first)} images of {files.annotations} have another size than it "
            f"says (first: {wrong[0]}); are they the ones that were annotated?"
        )


def prepare_data(config: ExperimentConfig, group: Processes) -> TrainingData:
    draw_synthetic(config, group)

    training = group.main_first(
        lambda: training_data(config.data, config.input, config.skeleton, seed=config.train.seed)
    )
    images = (
        validation_set(config, group, config.train.validate_images, trained=False)
        if config.train.validate_every
        else []
    )
    return TrainingData(config, training, images, validation_metric(config, group) if images else None)


def shown_people(training: Training) -> Iterator[np.ndarray]:
    """Keypoints (P, K, 3) of the first images as training shows them, for `Head.prepare`.  The same in every
    process."""
    dataset, stream = training
    return (dataset.people(stream[p], p) for p in range(min(len(stream), PREPARING)))


def validation_metric(config: ExperimentConfig, group: Processes) -> Metric | None:
    """What chooses the best checkpoint, in the process that scores (None elsewhere).  Raises `UserError` for
    annotations that cannot be scored, before a run folder is made or a step is taken."""
    bound: list[Metric] = []
    group.first(lambda: bound.append(_validation_metric(config)))
    return bound[0] if bound else None


def _validation_metric(config: ExperimentConfig) -> Metric:
    annotations = set_files(config.data, "val").annotations
    file = read(annotations, config.data.category, choose="data.category=NAME")
    metrics = bind(file, config.skeleton, config.test.metric, dict(config.test), count=1)
    if not metrics:
        raise UserError(
            f"validation: {annotations} has images but no annotations, so there is nothing to score; give "
            "data.val.annotations=FILE, or train.validate_every=0"
        )
    return metrics[0]


def validator(
    config: ExperimentConfig, data: TrainingData, group: Processes
) -> Callable[[nn.Module, int, Log], Scores]:
    """Real scores on a fixed subset of the validation images, by all processes together; and the loss on them
    where it is asked for."""
    loss = validation_loss(config, data, group) if config.train.needs_validation_loss else None
    metric = data.metric

    def validate(model: nn.Module, step: int, log: Log) -> Scores:
        assert isinstance(model, PoseModel)
        people, _ = predict_set(
            [model],
            data.validation,
            config.test,
            gather=group.gather,
            share=(group.rank, group.world_size),
            mode=config.train.validate_mode,
            workers=test_workers(config),
            strict=config.data.strict,
            timeout=config.data.timeout,
            orientation=config.data.orientation,
        )

        def judge() -> Scores:
            assert metric is not None
            scores = metric.evaluate(people, [one.id for one in data.validation])
            shown = drawn(config, data.validation[:SHEET], people, orientation=config.data.orientation)
            log.image("validation/people", step, shown)
            return scores

        scores = group.first(judge)
        return scores.also(loss=loss(model)) if loss else scores

    return validate


def validation_loss(
    config: ExperimentConfig, data: TrainingData, group: Processes
) -> Callable[[PoseModel], float]:
    """The mean loss over the validation images as they are, by all processes together."""
    files, settings = set_files(config.data, "val"), config.data
    # rank 0 has filled the cache, where there is one
    annotations = open_annotations(settings, files, config.skeleton)
    plain = settings.model_copy(update={"augment": no_augmentation()})
    dataset = KeypointDataset(annotations, files.images, plain, config.input, config.skeleton)
    indices = annotations.indices_of([one.id for one in data.validation]).tolist()

    def measure(model: PoseModel) -> float:
        return mean_loss(
            model,
            dataset,
            indices,
            group,
            batch_size=config.test.batch_size,
            workers=test_workers(config),
            timeout=settings.timeout,
            precision=resolve_precision(config.train.precision, group.device),
        )

    return measure


def drawn(
    config: ExperimentConfig,
    images: Sequence[SetImage],
    people: dict[int, People],
    *,
    orientation: Orientation = "auto",
    min_score: float = 0.2,
) -> np.ndarray:
    """A contact sheet of images with their people."""
    pictures = [
        draw_people(
            read_of_size(one.path, one.size, orientation),
            people[one.id],
            config.skeleton,
            Style(min_score=min_score),
        )
        for one in images
        if one.id in people
    ]
    return contact_sheet(pictures) if pictures else np.full((8, 8, 3), 255, np.uint8)


class PanelDrawer:
    """The same few training samples at any time of the training, as sheets of targets and predictions.

    The samples are those of the stream's first positions, preferably with several people, as they come at
    the training's start: nothing random is drawn, and they are read when they are first needed."""

    def __init__(self, config: ExperimentConfig, training: Training, precision: str) -> None:
        self.config = config
        self.training = training
        self.precision = precision
        self.batches: list[Batch] | None = None

    def __call__(self, model: nn.Module, step: int, log: Log) -> None:
        """Leaves weights and buffers alone, but the model in eval mode."""
        assert isinstance(model, PoseModel)
        if self.batches is None:
            self.batches = [self.read(position) for position in self.positions()]
        model.eval()
        device = next(model.parameters()).device
        with torch.no_grad():
            for i, batch in enumerate(self.batches):
                on_device = batch.to(device)
                log.image(f"panels/{i}", step, self.draw(model, on_device))

    def positions(self) -> list[int]:
        """Positions of the samples that are drawn."""
        dataset, stream = self.training
        first = range(min(len(stream), PANEL_CHOICE))
        people = [len(true_people(dataset.people(stream[p], p))) for p in first]
        return sorted(sorted(first, key=lambda p: (people[p] < 2, people[p] < 1, p))[:PANELS])

    def read(self, position: int) -> Batch:
        """One sample of the stream."""
        dataset, stream = self.training
        index = stream[position]
        canvas = self.config.input.size
        if dataset.whole:
            multiple = dataset.augment.whole_multiple
            height, width = dataset.drawn_size(index, position)
            canvas = (geometry.round_up(max(1, height), multiple), geometry.round_up(max(1, width), multiple))
        return collate([dataset[index, position, canvas]]).batch

    def draw(self, model: PoseModel, batch: Batch) -> np.ndarray:
        """The sheet of a batch of one image."""
        images = DeviceAugment(self.config.data.augment)(batch.image, batch.color)
        with autocast(images.device, self.precision):
            stages = model(images)
        head, fields = model.head, model.head.readout(stages)
        stride = images.shape[-2] // next(iter(fields.values())).shape[-2]
        fused = {
            name: fields[name][:, None] if spec.fuse == "stack" else fields[name]
            for name, spec in head.fields.items()
        }
        people = head.decode(fused, stride)[0]
        shown = as_bytes(images)
        return Painter(head.fields, self.config.skeleton).sheet(
            shown,
            (of_first(fields), people),
            target_of(head, batch, stride),
            zoom=PANEL_SIDE / max(shown.shape[:2]),
        )


def panel_drawer(config: ExperimentConfig, data: TrainingData, group: Processes) -> PanelDrawer | None:
    """What draws `train.panels_every` steps, in the process that writes the log."""
    if not (config.train.panels_every and group.main):
        return None
    return PanelDrawer(config, data.training, resolve_precision(config.train.precision, group.device))


def load_model(experiment: Experiment, weights: str | None, device: torch.device) -> tuple[PoseModel, Path]:
    """A run's model with the weights of `best`, `last` or a file (None: best, else last), and that file."""
    config = experiment.config
    file = experiment.weights(weights)
    model = config.build_model()
    weights_by_name = experiment.read_weights(file)
    try:
        report = checkpoint.load_matching(model, weights_by_name)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    if not report.without(head_buffers(model)).complete:
        raise UserError(f"{file} is of another network than {experiment.path('config.yaml')}: {report}")
    model.head.restore(experiment.folder)
    return model.to(device).eval(), file


def head_buffers(model: PoseModel) -> list[str]:
    """Names of what the head knows of its data set, which checkpoints of older versions lack."""
    return [f"head.{name}" for name in model.head.state_dict()]
