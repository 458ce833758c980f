"""The choices of settings that have a fixed list of values."""

from typing import Literal

# Pretrained networks whose feature maps a painting or a comparison uses.
NetworkName = Literal["vgg19", "vgg16"]
# Pooling in the layers that halve the feature maps.
Pooling = Literal["max", "average"]
# Values beyond the border of a feature map.
Padding = Literal["zero", "reflect", "replicate"]
# Published weights whose mean activations a network's are rescaled to.
Scale = Literal["fetched", "caffe", "torchvision"]
# Normalizations of the content loss.
ContentScaling = Literal["relative", "mean", "gatys", "sum", "root"]
# Statistics of feature maps that the style loss compares.
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
# Measures of the difference between adjacent pixels.
SmoothnessMeasure = Literal["squared", "absolute", "nine-point", "joint", "blur"]
# Normalizations of the smoothness loss.
SmoothnessScaling = Literal["mean", "sum"]
# Devices to compute on.
DeviceChoice = Literal["auto", "cpu", "cuda", "mps"]
# Number formats between layers.
Precision = Literal["auto", "float32", "bfloat16"]
