"""The losses that several stages share."""

from __future__ import annotations

import torch
import torch.nn.functional as F

MARGIN, FOCUS = 0.05, 4


def asymmetric_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean of a loss in which easy negatives count little (Ridnik et al., ICCV 2021)."""
    scores = torch.sigmoid(logits)
    shifted = (scores - MARGIN).clamp(min=0)
    positives = labels * F.logsigmoid(logits)
    negatives = (1 - labels) * shifted**FOCUS * torch.log1p(-shifted)
    return -(positives + negatives).mean()
