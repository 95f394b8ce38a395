"""Pictures as functions of state: the same one makes a static figure, a widget's frame, a test's picture.

A picture comes in two halves. `frame_*(axes, state)` draws what stays while a control moves: scales,
ticks, names. `draw_*(axes, state)` adds what moves and returns those artists, so that a widget can keep
the frame as a background and redraw only them. `axes` is the list of a figure's axes.
"""

from .attention import SideBySide, draw_side_by_side, frame_side_by_side
from .contest import Contender, Contest, draw_contest, frame_contest, which_one
from .direction import Bump, Direction, draw_direction, frame_direction
from .distributions import Moment, Tempered, bars, draw_moment, draw_tempered, frame_moment, frame_tempered
from .figure import ACCENT, STUDENT, TEACHER, TRUTH, Static, new_figure, picture
from .forest import Forest, Gap, draw_forest, forest, frame_forest
from .layers import Mapped, draw_mapped, frame_mapped
from .lines import curves
from .maps import attention_maps
from .sizes import Sizes, Weighed, draw_sizes, frame_sizes
from .suspects import Suspect, draw_suspect, evidence, frame_suspect

__all__ = ["ACCENT", "STUDENT", "TEACHER", "TRUTH", "Bump", "Contender", "Contest", "Direction", "Forest", "Gap",
           "Mapped", "Moment", "SideBySide", "Sizes", "Static", "Suspect", "Tempered", "Weighed", "attention_maps",
           "bars", "curves", "draw_contest", "draw_direction", "draw_forest", "draw_mapped", "draw_moment",
           "draw_side_by_side", "draw_sizes", "draw_suspect", "draw_tempered", "evidence", "forest",
           "frame_contest", "frame_direction", "frame_forest", "frame_mapped", "frame_moment", "frame_side_by_side",
           "frame_sizes", "frame_suspect", "frame_tempered", "new_figure", "picture", "which_one"]
