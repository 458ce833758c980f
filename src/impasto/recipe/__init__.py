"""Recipes: the settings of a picture, their names, ranges, defaults and files."""
