"""What the drawn desktop shows: native at every size, the same every time, nothing unlabelled."""

import hashlib
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.actions import Action
from ingest.replay.drawn import DrawnDesktop, Layout
from ingest.replay.drawn.pointer import EDGE, FILL, Pointer
from tests.desktop_user import ACTIONS, AIMED, BARE, FIREFOX, HOME, TERMINAL, User

SIZES = [(64, 48), (128, 96), (256, 192), (512, 384)]


def tour(desktop: DrawnDesktop) -> list[np.ndarray]:
    """Frames that show everything that the desktop can draw."""
    user = User(desktop)
    user.create_folder("work")
    frames = [user.double_click(at).frame for at in (HOME, TERMINAL, (190.0, 172.0))]
    user.right_click(BARE)
    frames.append(user.click_create_folder().frame)
    user.press("escape")
    user.double_click(FIREFOX)
    for page in ("maps", "weather", "news", "shop", "mail", "music"):
        user.click((250.0, 74.0))
        user.type(page)
        frames.append(user.press("enter").frame)
    return frames


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_frames_have_the_asked_size_and_show_more_than_the_sky(width: int, height: int) -> None:
    for frame in tour(DrawnDesktop(width, height)):
        assert frame.shape == (height, width, 3)
        assert frame.dtype == np.uint8
        assert len(np.unique(frame.astype(np.int32) @ (1, 256, 65536))) > 20


def test_a_small_frame_is_drawn_small_not_shrunk() -> None:
    small = User(DrawnDesktop(128, 96)).double_click(HOME).frame
    colours = {tuple(colour) for colour in small[:, 96:].reshape(-1, 3)}
    assert len(colours) < 110  # 96 rows of sky and a handful of flat colours, no blends


@pytest.mark.parametrize("width", [64, 128, 512])
def test_the_pointer_is_at_least_five_pixels_with_its_tip_at_the_action(width: int) -> None:
    assert min(Pointer(width).size) >= 5
    user = User(DrawnDesktop(width, width * 3 // 4))
    there, away = user.move((256.0, 192.0)).frame, user.move((20.0, 360.0)).frame
    rows, columns = np.nonzero((there != away).any(axis=2)[:, width // 4 :])
    assert (rows.min(), columns.min() + width // 4) == (width * 3 // 8, width // 2)
    assert {EDGE, FILL} <= {tuple(c) for c in there.reshape(-1, 3)}


def test_the_pointer_is_cut_at_the_screens_edge() -> None:
    assert User().move((511.0, 383.0)).frame[95, 127].tolist() == list(EDGE)


def test_the_same_actions_give_the_same_frames() -> None:
    digests = {
        hashlib.sha256(b"".join(frame.tobytes() for frame in tour(desktop))).hexdigest()
        for desktop in (DrawnDesktop(), DrawnDesktop())
    }
    assert len(digests) == 1


def test_a_kept_frame_is_not_drawn_over_later() -> None:
    user = User()
    frame = user.move(BARE).frame
    before = frame.copy()
    user.double_click(HOME)
    assert (frame == before).all()


def test_varied_layouts_differ_and_repeat_by_seed() -> None:
    layouts = [Layout.varied(random.Random(seed)) for seed in range(5)]
    assert Layout.varied(random.Random(0)) == layouts[0]
    frames = [User(DrawnDesktop(layout=layout)).move(BARE).frame for layout in layouts]
    assert len({frame.tobytes() for frame in frames}) == 5


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_every_varied_layout_opens_its_windows(seed: int) -> None:
    layout = Layout.varied(random.Random(seed))
    for app, at in layout.icons.items():
        assert User(DrawnDesktop(layout=layout)).double_click(at).changes == (
            f"window_opened:{app}",
        )


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTIONS | AIMED, max_size=60))
def test_no_sequence_of_actions_raises_or_changes_the_screen_without_a_label(
    actions: list[Action],
) -> None:
    desktop = DrawnDesktop(64, 48)
    resting = Action(0.0, 383.0)
    before = desktop.step(resting).frame
    for action in actions:
        changes = desktop.step(action).changes
        after = desktop.step(resting).frame
        assert changes or (after == before).all()
        before = after
