"""The choices of settings that have a fixed list of values."""

from typing import Literal

# The side of a picture that a size in pixels refers to; "area": that of the square with as many
# pixels.
Side = Literal["long", "short", "height", "width", "area"]

# The networks that paint, and that evaluate finished pictures.
NetworkName = Literal["vgg19", "vgg16"]
# How the network halves its feature maps.
Pooling = Literal["max", "average"]
# What convolutions read beyond the border of a map.
Padding = Literal["zero", "reflect", "replicate"]
# Whose activations the network's are rescaled to; "fetched" leaves them as they are.
Scale = Literal["fetched", "caffe", "torchvision"]

# What the content term's sum of squared differences is divided by; "normalized": each channel of
# both maps is brought to mean 0 and deviation 1 first.
ContentScaling = Literal["relative", "normalized", "mean", "gatys", "sum", "root"]
# The statistics of feature maps that the style term compares.
Statistic = Literal[
    "wasserstein",
    "wasserstein-absolute",
    "gram",
    "gram-gatys",
    "gram-mean",
    "gram-relative",
    "gram-root",
    "mean-deviation",
    "mean-deviation-absolute",
]
# What the features are projected on: random directions, or each channel.
Directions = Literal["random", "channels"]
# Whether the histogram loss is divided by the painting's mean squared feature.
HistogramScaling = Literal["relative", "mean"]
# What the painting's size is relative to.
Sizing = Literal["area", "long", "short", "height", "width", "squash", "own"]
# How the smoothness term measures the difference between neighboring pixels.
SmoothnessMeasure = Literal["squared", "absolute", "nine-point", "joint", "blur"]
# Whether the smoothness term is averaged over the picture or summed.
SmoothnessScaling = Literal["mean", "sum"]

# The optimizers.
SolverName = Literal["lbfgs", "adam", "sgd"]
# How L-BFGS scales its first step.
Preconditioner = Literal["learned", "none"]
# Whether L-BFGS searches for a step length.
LineSearch = Literal["none", "strong-wolfe"]
# Whether pixels are clamped to 0..1 after each step; "auto": Adam and SGD do.
Clamp = Literal["auto", "yes", "no"]

# The distribution of the noise in the initial picture.
NoiseKind = Literal["normal", "uniform"]
# The mean of that noise: 0.5, or the network's mean color.
NoiseCenter = Literal["grey", "mean"]

# Where to compute.
DeviceChoice = Literal["auto", "cpu", "cuda", "mps"]
# The type of the feature maps.
Precision = Literal["auto", "float32", "bfloat16"]
