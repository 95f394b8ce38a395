"""Widgets: ipywidgets controls around the pictures of `kdlab.plots`, and nothing else to install."""

from .attention import AttentionSideBySide
from .builder import BottleneckBuilder
from .contest import WhichOne
from .direction import KLDirection
from .layers import LayerMapBuilder
from .live import LiveRun
from .suspects import LineUp
from .temperature import TemperatureExplorer
from .watch import WatchItLearn

__all__ = ["AttentionSideBySide", "BottleneckBuilder", "KLDirection", "LayerMapBuilder", "LineUp", "LiveRun",
           "TemperatureExplorer", "WatchItLearn", "WhichOne"]
