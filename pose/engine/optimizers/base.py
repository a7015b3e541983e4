"""What all optimisers have in common."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from pose.config import Settings

ParameterGroup = dict[str, Any]
"""As torch has them: `params` (here with their names), `lr`, `weight_decay`, and a `name` for the log."""


class OptimizerSettings(Settings):
    """Learning rate and weight decay."""

    name: str
    lr: float = Field(2e-4, gt=0)
    """Learning rate after warm-up, for the whole batch size."""
    weight_decay: float = Field(0.0, ge=0)
    """Decay of weights; biases and normalisation layers are not decayed."""
    backbone_lr: float = Field(1.0, gt=0)
    """Factor on the learning rate of the whole backbone, such as 0.1 where it is pretrained."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """The learning rate of each group of the backbone's layers is this times that of the group after it, and
    that of the last group this times the rate of neck and predictor; for backbones that give features."""


class AdamSettings(OptimizerSettings):
    """Adam and AdamW."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square."""

    @field_validator("betas")
    @classmethod
    def _check_betas(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in value):
            raise ValueError(f"expected two numbers from 0 to below 1, got {list(value)}")
        return value
