"""Pretrained networks with frozen weights: VGG-19, VGG-16 and AlexNet."""
