"""What pose.tools.pairwise_stats works out of a data set or of a trained run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pose import geometry
from pose.data.mixture import training_data
from pose.decoders.detections import DetectionSettings, find_detections
from pose.decoders.pair_models import Examples, examples, fit, told
from pose.decoders.pairwise_statistics import PairwiseStatistics, gather, to_json
from pose.engine.distributed import Processes, pick_device
from pose.errors import UserError
from pose.experiment import Experiment, ExperimentConfig, load_config
from pose.files import write_json
from pose.heads.pairwise import FILE, PairwiseHead
from pose.images import UnreadableImage
from pose.predict.batches import BatchPredictor
from pose.sessions import TrainingData, draw_synthetic, load_model, shown_people


def opened(config: ExperimentConfig) -> TrainingData:
    draw_synthetic(config, Processes(torch.device("cpu")))
    training = training_data(config.data, config.input, config.skeleton, seed=config.train.seed)
    return TrainingData(config, training, [])


def means(config: ExperimentConfig) -> PairwiseStatistics:
    """Statistics of the training set as it is trained on, whatever file the config names."""
    if not hasattr(config.head, "statistics"):
        raise UserError(
            f"head.name: {config.head.name!r} takes no pairwise statistics; the head `pairwise` does"
        )
    return gather([*shown_people(opened(config).training)], config.skeleton)


def detections_of(
    predictor: BatchPredictor, head: PairwiseHead, config: ExperimentConfig, pictures: int
) -> Iterator[Examples]:
    """The examples of training images, upright and as they are tested."""
    dataset, stream = opened(config).training
    settings = head.decoder.settings
    if not isinstance(settings, DetectionSettings):
        raise UserError(
            f"head.decoder: {settings.name!r} makes no pairs of detections; give head.decoder.name=multicut"
        )
    for position in tqdm(range(min(pictures, len(stream))), desc="detecting", unit="img", disable=None):
        _, keypoints = dataset.picture(stream[position])
        try:
            prepared = predictor.prepare(dataset.read(stream[position]))
        except UnreadableImage:
            continue
        fields, stride = predictor.fields([prepared.canvases])
        (found,) = find_detections(**fields, stride=stride, settings=settings, layout=head.layout)
        keypoints[..., :2] = geometry.apply(prepared.matrix, keypoints[..., :2])
        yield examples(found, keypoints, config.skeleton, head.cfg.radius)


def with_models(options: argparse.Namespace) -> tuple[PairwiseStatistics, Path, str]:
    """The statistics of a run with models of its pairs, the file that they belong to, and a sentence."""
    experiment = Experiment.open(options.name, overrides=options.settings)
    model, _ = load_model(experiment, options.weights, pick_device(options.device, 0))
    head = model.head
    if not isinstance(head, PairwiseHead):
        raise UserError(f"the run {options.name} has the head {experiment.config.head.name!r}, not pairwise")
    if not head.prepared:  # converted without: nothing fits offsets of nothing
        head.use_statistics(means(experiment.config))
    predictor = BatchPredictor(model, experiment.config.test, "single")
    parts = detections_of(predictor, head, experiment.config, options.pictures)
    models, without = fit(parts, experiment.config.skeleton)
    sentence = told(without, len(experiment.config.skeleton.pair_index))
    return replace(head.statistics, models=models), experiment.path(FILE), sentence


@torch.no_grad()
def write(options: argparse.Namespace) -> int:
    """Writes the JSON."""
    if options.config:
        statistics = means(load_config(options.config, options.settings))
        output: Path = options.output
    else:
        statistics, own, sentence = with_models(options)
        output = options.output or own
        print(sentence, file=sys.stderr)
    write_json(output, to_json(statistics))
    spread = float(np.mean([statistics.std[a, b] for a in range(len(statistics.std)) for b in range(a)]))
    print(
        f"{output}: {len(statistics.keypoints)} keypoints, mean deviation of an offset {spread:.1f} pixels, "
        f"{len(statistics.models)} models"
    )
    return 0
