"""The section `train:` of a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, model_validator

from pose.config import FilePath, Settings, component_settings
from pose.engine.optimizers.adam import AdamSettings
from pose.engine.schedules.step import StepSettings
from pose.registry import OPTIMIZERS, SCHEDULES

if TYPE_CHECKING:
    AnyOptimizer: TypeAlias = Any
    AnySchedule: TypeAlias = Any
else:
    AnyOptimizer = component_settings(OPTIMIZERS, default="adam")
    AnySchedule = component_settings(SCHEDULES, default="step")


class TrainSettings(Settings):
    """The defaults are pose-ae-train's."""

    former_keys: ClassVar[Mapping[str, tuple[str, str]]] = {
        "optimizer": ("optimizer", "name"),
        **{key: ("optimizer", key) for key in ("lr", "weight_decay", "backbone_lr", "layer_decay")},
        **{key: ("optimizer", key) for key in ("betas", "momentum", "nesterov")},
        "schedule": ("schedule", "name"),
        **{key: ("schedule", key) for key in ("warmup_steps", "milestones", "gamma", "rates", "final_lr")},
        **{
            f"plateau_{key}": ("schedule", key)
            for key in ("metric", "factor", "patience", "cooldown", "threshold")
        },
    }

    optimizer: AnyOptimizer = AdamSettings()
    """How gradients move the weights."""
    schedule: AnySchedule = StepSettings()
    """The learning rate by step."""
    clip_norm: float | None = Field(None, gt=0)
    """Gradients are scaled down to this total norm."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay of the moving average of the weights that is validated and tested; 0 = none.  It starts lower:
    (1 + step) / (10 + step) while that is less."""
    batch_size: int = Field(32, ge=1, le=10_000)
    """Pictures per step over all GPUs and machines: the same config gives the same training on any number."""
    accumulate: int = Field(1, ge=1)
    """Parts in which a batch goes through the network one after the other, for less memory."""
    epochs: int = Field(300, ge=1)
    steps_per_epoch: int | None = Field(1000, ge=1)
    """Length of an epoch; null = once over the data."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the network; auto = bf16 on GPUs that have it, else fp32.  A run keeps what it began
    with."""
    tf32: bool | None = None
    """TF32 instead of float32 in convolutions and matrix products of NVIDIA GPUs, where precision is fp32;
    null = PyTorch's default, which is convolutions only."""
    channels_last: bool | None = None
    """Memory order of the maps; null = channels last on GPUs."""
    parallel: Literal["auto", "ddp", "dp", "none"] = "auto"
    """Several GPUs of this machine: auto and ddp = one process each (DistributedDataParallel); dp = one
    process for all (DataParallel, slower); none = one GPU.  torchrun's processes are always DDP."""
    gradient_compression: Literal["none", "bf16"] = "none"
    """How processes (DDP) exchange gradients: none = as they are (float32); bf16 = rounded to half the bytes,
    for a slow network between machines (docs/scaling.md)."""
    compile: bool = False
    """torch.compile the backbone: minutes at the start, faster steps after."""
    sync_bn: bool = False
    """Batch normalisation over all processes (DDP on GPUs)."""
    seed: int = Field(0, ge=0)
    """Of the first weights, the order of the data and the augmentation."""
    weights: FilePath | None = None
    """Checkpoint to start from (its weights only); null = as the network initialises itself.  At least one
    convolution or linear layer of every stage of the backbone must fit by name and shape, and half of the
    backbone's parameters."""
    weights_partial: bool = False
    """Start from `weights` where less than that fits."""
    freeze_epochs: int = Field(0, ge=0)
    """First epochs in which the backbone's pretrained layers stand still.  After them a fresh optimiser moves
    all weights, and the schedule `plateau` begins to count."""
    validate_every: int = Field(1, ge=0)
    """Epochs between validations; 0 = never."""
    validate_images: int | None = Field(500, ge=1)
    """Pictures of a fixed random subset; null = all."""
    validate_mode: Literal["single", "multi"] = "single"
    validate_loss: bool = False
    """The loss on these images, without augmentation, is worked out too (always for `plateau` on it)."""
    save_minutes: float = Field(10.0, gt=0)
    """`last.pt` is saved at every epoch, and after so many minutes within one."""
    save_steps: int | None = Field(None, ge=1)
    """`last.pt` is also saved every so many steps."""
    keep: int = Field(0, ge=0)
    """Epoch checkpoints kept beside last.pt and best.pt."""
    panels_every: int = Field(5000, ge=0)
    """Steps between images of targets and predictions, of the same few training samples each time, in
    TensorBoard (`panels/0` and so on); the first are drawn after step 1; 0 = never."""
    log_every: int = Field(50, ge=1)
    """Steps between lines of the log (the only moments at which the loop waits for a GPU)."""
    max_nonfinite: int = Field(10, ge=1)
    """Steps in a row without a finite loss after which the run stops."""

    @model_validator(mode="after")
    def _check_validation(self) -> TrainSettings:
        if self.schedule.needs_validation and not self.validate_every:
            raise ValueError(
                f"the schedule {self.schedule.name} goes by validations, and there are none; set "
                "validate_every=1, or another schedule"
            )
        return self

    @property
    def needs_validation_loss(self) -> bool:
        return self.validate_loss or bool(self.schedule.needs_validation_loss)
