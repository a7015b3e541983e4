"""The section `train:` of a config."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pose.config import FilePath
from pose.engine.optim import OptimSettings


class TrainSettings(OptimSettings):
    """The defaults are pose-ae-train's."""

    batch_size: int = Field(32, ge=1, le=10_000)
    """Pictures per step over all GPUs and machines: the same config gives the same training on any number."""
    accumulate: int = Field(1, ge=1)
    """Parts in which a batch goes through the network one after the other, for less memory."""
    epochs: int = Field(300, ge=1)
    steps_per_epoch: int | None = Field(1000, ge=1)
    """Length of an epoch; null = once over the data."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the network; auto = bf16 on GPUs that have it, else fp32."""
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
    """Checkpoint to start from (its weights only); null = as the network initialises itself."""
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
    def _check_plateau(self) -> TrainSettings:
        if self.schedule == "plateau" and not self.validate_every:
            raise ValueError(
                "the schedule plateau goes by validations, and there are none; set validate_every=1, or "
                "another schedule"
            )
        return self

    @property
    def needs_validation_loss(self) -> bool:
        return self.validate_loss or (self.schedule == "plateau" and self.plateau_metric == "loss")
