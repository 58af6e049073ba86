"""The loss of the inner and the outer loop. Targets are soft labels, never class numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy with soft labels, averaged over a batch.

    Args:
        logits: (n, K), carries the gradient.
        labels: (n, K), rows >= 0; carries the gradient. One-hot rows give the usual loss.

    >>> logits = torch.tensor([[2.0, 0.0, -1.0]])
    >>> hard = torch.nn.functional.cross_entropy(logits, torch.tensor([0]))
    >>> bool(torch.isclose(soft_cross_entropy(logits, torch.tensor([[1.0, 0.0, 0.0]])), hard))
    True
    """
    return -(labels * torch.log_softmax(logits, 1)).sum(1).mean()
