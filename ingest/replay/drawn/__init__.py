"""The drawn desktop: a small XFCE-like desktop in pure Python, deterministic, drawn natively.

layout, themes    where things lie, and their colours
scene             what the screen shows, as immutable values
terminal, browser, folder    the apps
clicks, state     the rules: state and action in, state and labelled changes out
attempts          what an action that did nothing was an attempt at
picture, windows, icons, text, pointer    a scene to pixels, at any size
desktop           the environment that replay uses
"""

from ingest.replay.drawn.changes import STRUCTURAL, is_structural
from ingest.replay.drawn.desktop import Counterfactual, DrawnDesktop
from ingest.replay.drawn.layout import Layout

__all__ = ["STRUCTURAL", "Counterfactual", "DrawnDesktop", "Layout", "is_structural"]
