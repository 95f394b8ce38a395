"""Widgets: ipywidgets controls around the pictures of `kdlab.plots`, and nothing else to install."""

from .attention import AttentionSideBySide
from .builder import BottleneckBuilder
from .contest import WhichOne
from .suspects import LineUp
from .temperature import TemperatureExplorer
from .watch import WatchItLearn

__all__ = ["AttentionSideBySide", "BottleneckBuilder", "LineUp", "TemperatureExplorer", "WatchItLearn", "WhichOne"]
