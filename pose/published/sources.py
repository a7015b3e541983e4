"""The published systems whose checkpoints can be converted, by name.  Their files import torch where they
read a checkpoint, not before."""

from __future__ import annotations

from pose.published import ae_aic, deepercut, mmpose, pose_ae, rtpose

SOURCES = {
    "pose-ae": pose_ae.SOURCE,
    "rtpose": rtpose.SOURCE,
    "ae-aic": ae_aic.SOURCE,
    "higherhrnet": mmpose.HIGHERHRNET,
    "mmpose": mmpose.MMPOSE,
    "deepercut": deepercut.SOURCE,
}
