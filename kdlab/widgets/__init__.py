"""Widgets: ipywidgets controls around the pictures of `kdlab.plots`, and nothing else to install."""

from .temperature import TemperatureExplorer
from .watch import WatchItLearn

__all__ = ["TemperatureExplorer", "WatchItLearn"]
