"""Style statistics that only the recipes of published systems use.

Sources: Gatys, Ecker, Bethge, "A Neural Algorithm of Artistic Style" (2015), equation 4, for Gram
matrices; Li, Wang, Liu, Hou, "Demystifying Neural Style Transfer" (2017), for means and deviations.
The other divisors are those of published programs. X (C, h w) is a feature map.
"""

from __future__ import annotations

from torch import Tensor

from impasto.objectives.moments import Moments
from impasto.objectives.wasserstein_distance import squared_wasserstein


def gram(current: Moments, target: Moments) -> Tensor:
    """Gatys's equation 4 with each Gram matrix divided by its own count of positions.

    sum (G - A)^2 / (4 C^2) with G = X X^T / (h w). A painting of another size compares fairly.
    """
    return (current.second - target.second).square().sum() / (4 * target.channels**2)


def gram_gatys(current: Moments, target: Moments) -> Tensor:
    """Gatys's equation 4 to the letter: sum (G - A)^2 / (4 N^2 M^2).

    G and A are the Gram matrices X X^T, N the channels and M the positions of the picture's map.
    """
    difference = current.second * current.count - target.second * target.count
    return difference.square().sum() / (4 * target.channels**2 * current.count**2)


def gram_mean(current: Moments, target: Moments) -> Tensor:
    """The mean squared difference of Gram matrices that are divided by C h w.

    sum (G - A)^2 / C^2 with G = X X^T / (C h w). Johnson, Alahi, Li, "Perceptual Losses" (2016),
    section 3.2, take the sum instead of the mean.
    """
    return (current.second - target.second).square().sum() / target.channels**4


def gram_root(current: Moments, target: Moments) -> Tensor:
    """The squared difference of Gram matrices that are divided by the root of their counts.

    sum (G - A)^2 / (4 C^2) with G = X X^T / sqrt(h w).
    """
    difference = current.second * current.count.sqrt() - target.second * target.count.sqrt()
    return difference.square().sum() / (4 * target.channels**2)


def mean_deviation(current: Moments, target: Moments) -> Tensor:
    """Squared differences of means and standard deviations over the target's mean squared norm."""
    return _mean_deviation(current, target) / target.mean_squared_norm


def mean_deviation_absolute(current: Moments, target: Moments) -> Tensor:
    """Squared differences of means and standard deviations, each averaged over channels."""
    return _mean_deviation(current, target) / target.channels


def wasserstein_absolute(current: Moments, target: Moments) -> Tensor:
    """The squared Wasserstein-2 distance of the Gaussians over the number of channels."""
    return squared_wasserstein(current, target) / target.channels


def _mean_deviation(current: Moments, target: Moments) -> Tensor:
    deviations = _deviation(current) - _deviation(target)
    return (current.mean - target.mean).square().sum() + deviations.square().sum()


def _deviation(moments: Moments) -> Tensor:
    # The square root has no derivative at 0, the deviation of a channel that is always inactive.
    return (moments.second.diagonal() - moments.mean.square()).clamp_min(1e-8).sqrt()
