"""Convolutional networks that were trained to recognise things, used as frozen measuring
instruments.
"""
