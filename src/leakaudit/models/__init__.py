"""The networks and the task: the one definition of learning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leakaudit._lazy import lazy
from leakaudit.models.params import NetworkChoice, NetworkParams, SegResNetParams, TrainingParams

if TYPE_CHECKING:
    from leakaudit.models.canary import GradientCanary
    from leakaudit.models.task import SegmentationTask, Task, TaskSpec, Tensors, load_task, optimizer_for
    from leakaudit.models.unet import Encoder, Head, SegmentationNet, Trunk

__all__ = [
    "Encoder", "GradientCanary", "Head", "NetworkChoice", "NetworkParams", "SegResNetParams", "SegmentationNet", "SegmentationTask",
    "Task", "TaskSpec", "Tensors", "TrainingParams", "Trunk", "load_task", "optimizer_for",
]  # fmt: skip

__getattr__ = lazy(
    __name__,
    {
        **dict.fromkeys(("SegmentationTask", "Task", "TaskSpec", "Tensors", "load_task", "optimizer_for"), "task"),
        "GradientCanary": "canary",
        **dict.fromkeys(("Encoder", "Head", "SegmentationNet", "Trunk"), "unet"),
    },
)
