"""The drawn desktop's colours: one standard theme, and random ones for the encoder's training.

Only what a theme changes is here; the pointer, the icons' pictures and web pages keep their own.
"""

import colorsys
import random
from dataclasses import dataclass
from typing import Final, TypeAlias

Colour: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours, 0-255 RGB."""

    sky_top: Colour
    sky_bottom: Colour
    icon_text: Colour
    highlight: Colour
    border: Colour
    title_focused: Colour
    title_unfocused: Colour
    title_text: Colour
    close: Colour
    panel: Colour
    panel_text: Colour
    panel_faint: Colour
    field: Colour
    terminal: Colour
    terminal_text: Colour
    prompt: Colour


STANDARD_THEME: Final = Theme(
    sky_top=(28, 34, 48),
    sky_bottom=(42, 52, 70),
    icon_text=(226, 230, 236),
    highlight=(66, 112, 184),
    border=(12, 14, 18),
    title_focused=(58, 118, 196),
    title_unfocused=(92, 96, 106),
    title_text=(244, 246, 250),
    close=(226, 58, 52),
    panel=(214, 216, 220),
    panel_text=(36, 38, 44),
    panel_faint=(150, 154, 162),
    field=(246, 247, 249),
    terminal=(14, 16, 18),
    terminal_text=(206, 210, 206),
    prompt=(96, 220, 96),
)


def varied_theme(rng: random.Random) -> Theme:
    """A legible theme of random hues: a dark sky, title bars that differ, text that contrasts."""
    sky, title = rng.random(), rng.random()
    paper = rng.uniform(0.68, 0.95)
    dark = rng.uniform(0.04, 0.18)
    return Theme(
        sky_top=_colour(sky, rng.uniform(0.1, 0.7), rng.uniform(0.08, 0.4)),
        sky_bottom=_colour(
            sky + rng.uniform(-0.1, 0.1), rng.uniform(0.1, 0.7), rng.uniform(0.1, 0.5)
        ),
        icon_text=_colour(rng.random(), 0.08, rng.uniform(0.8, 1.0)),
        highlight=_colour(rng.random(), rng.uniform(0.5, 0.8), rng.uniform(0.5, 0.8)),
        border=_colour(rng.random(), 0.3, rng.uniform(0.02, 0.12)),
        title_focused=_colour(title, rng.uniform(0.5, 0.9), rng.uniform(0.5, 0.85)),
        title_unfocused=_colour(title, rng.uniform(0.0, 0.2), rng.uniform(0.3, 0.5)),
        title_text=_colour(rng.random(), 0.05, 0.97),
        close=_colour(rng.uniform(-0.04, 0.04), rng.uniform(0.7, 0.9), rng.uniform(0.75, 0.95)),
        panel=_colour(rng.random(), rng.uniform(0.0, 0.1), paper),
        panel_text=_colour(rng.random(), 0.2, dark),
        panel_faint=_colour(rng.random(), 0.08, paper - 0.25),
        field=_colour(rng.random(), 0.02, min(1.0, paper + 0.12)),
        terminal=_colour(rng.random(), rng.uniform(0.0, 0.6), dark),
        terminal_text=_colour(rng.random(), rng.uniform(0.0, 0.25), rng.uniform(0.7, 0.95)),
        prompt=_colour(rng.random(), 0.6, rng.uniform(0.75, 0.95)),
    )


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, min(max(value, 0.0), 1.0))
    return round(red * 255), round(green * 255), round(blue * 255)
