"""What `ingest.replay.recording` promises."""

import io
from pathlib import Path

import numpy as np
import orjson
import pytest
import webdataset
from PIL import Image
from sqlalchemy import Engine

from ingest.actions import Action
from ingest.cut import EpisodeActions, episode_actions
from ingest.database import write
from ingest.replay.drawn import DrawnDesktop
from ingest.replay.environment import Step
from ingest.replay.recording import Recording, ReplayError, record
from ingest.shard_store import FolderStore
from ingest.shards import read_span, split_members
from tests.factories import action_payload, make_episode

WIDTH, HEIGHT = 128, 96
FIREFOX = {"x": 190, "y": 45}
OPEN_BROWSER = [
    action_payload(),
    action_payload(**FIREFOX),
    action_payload(**FIREFOX, is_left_click=True),
    action_payload(**FIREFOX, is_left_click=True),
    *[action_payload(**FIREFOX)] * 5,
]


def actions_of(engine: Engine, payloads: list[dict[str, object]]) -> EpisodeActions:
    with write(engine) as session:
        return episode_actions(session, make_episode(session, payloads=payloads).episode_id)


def record_in(folder: Path, actions: EpisodeActions) -> Recording:
    return record(
        DrawnDesktop(WIDTH, HEIGHT),
        actions,
        FolderStore(folder),
        key=("abc", 1),
        before_step=lambda: None,
    )


def described(folder: Path, recording: Recording) -> list[dict[str, object]]:
    path = folder / recording.shard.path
    return [
        orjson.loads(split_members(read_span(path, span.offset, span.length))["json"])
        for span in recording.spans
    ]


def test_frames_are_what_the_desktop_showed_lossless_and_as_many_as_actions(
    engine: Engine, tmp_path: Path
) -> None:
    actions = actions_of(engine, OPEN_BROWSER)
    recording = record_in(tmp_path, actions)
    desktop = DrawnDesktop(WIDTH, HEIGHT)
    desktop.reset()
    assert len(recording.spans) == len(OPEN_BROWSER)
    for payload, span in zip(OPEN_BROWSER, recording.spans, strict=True):
        data = read_span(tmp_path / recording.shard.path, span.offset, span.length)
        shown = np.asarray(Image.open(io.BytesIO(split_members(data)["png"])))
        np.testing.assert_array_equal(shown, desktop.step(Action.from_payload(payload)).frame)


def test_a_double_click_on_firefox_is_a_change_and_names_the_task(
    engine: Engine, tmp_path: Path
) -> None:
    recording = record_in(tmp_path, actions_of(engine, OPEN_BROWSER))
    opened = [
        sample.position for sample in recording.samples if "window_opened:browser" in sample.changes
    ]
    assert len(opened) == 1
    assert "open_browser" in recording.tasks


def test_ticks_count_from_the_last_structural_change(engine: Engine, tmp_path: Path) -> None:
    ticks = [
        sample.ticks_since_change
        for sample in record_in(tmp_path, actions_of(engine, OPEN_BROWSER)).samples
    ]
    first = ticks.index(0)
    assert ticks[:first] == [None] * first
    for before, after in zip(ticks[first:], ticks[first + 1 :], strict=False):
        assert after in (0, before + 1)


def test_held_keys_are_kept_over_ticks_the_unrecorded_part_included(
    engine: Engine, tmp_path: Path
) -> None:
    payloads = [
        action_payload(keys_down=["Shift"]),
        action_payload(keys_down=["a"]),
        action_payload(),
        action_payload(keys_up=["a"]),
    ]
    events = actions_of(engine, payloads).recorded
    recording = record_in(tmp_path, EpisodeActions(events[:1], events[1:]))
    held = [fields["held"] for fields in described(tmp_path, recording)]
    assert held == [["a", "shift"], ["a", "shift"], ["shift"]]


def test_an_unrecorded_part_leads_to_the_same_frames(engine: Engine, tmp_path: Path) -> None:
    whole = actions_of(engine, OPEN_BROWSER)
    later = EpisodeActions(whole.recorded[:4], whole.recorded[4:])
    frames = [
        [split_members(read_span(tmp_path / recording.shard.path, span.offset, span.length))["png"]
         for span in recording.spans]
        for recording in (record_in(tmp_path, whole), record_in(tmp_path, later))
    ]  # fmt: skip
    assert frames[1] == frames[0][4:]


def test_a_sample_describes_its_action_as_understood(engine: Engine, tmp_path: Path) -> None:
    actions = actions_of(engine, [action_payload(x=9_999, y=None, is_left_click=True)])
    (fields,) = described(tmp_path, record_in(tmp_path, actions))
    assert fields["action"]["x"] == 511
    assert fields["action"]["y"] == 0
    assert fields["action"]["left"] is True
    assert fields["event_id"] == actions.recorded[0].event_id
    assert fields["environment"].startswith("drawn/")


def test_timer_made_actions_are_marked(engine: Engine, tmp_path: Path) -> None:
    actions = actions_of(engine, [action_payload(), action_payload(is_auto_input=True)])
    assert [s.is_auto for s in record_in(tmp_path, actions).samples] == [False, True]


def test_a_redo_gives_the_same_shard(engine: Engine, tmp_path: Path) -> None:
    actions = actions_of(engine, OPEN_BROWSER)
    assert record_in(tmp_path, actions) == record_in(tmp_path, actions)
    assert len(list(tmp_path.rglob("*.tar"))) == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # it leaves its file open
def test_the_stock_webdataset_library_decodes_a_frame_shard(engine: Engine, tmp_path: Path) -> None:
    recording = record_in(tmp_path, actions_of(engine, OPEN_BROWSER))
    path = str(tmp_path / recording.shard.path)
    samples = list(webdataset.WebDataset(path, shardshuffle=False).decode("rgb8"))
    assert [sample["__key__"] for sample in samples] == [
        f"abc-1-{position:05d}" for position in range(len(OPEN_BROWSER))
    ]
    assert samples[0]["png"].shape == (HEIGHT, WIDTH, 3)
    assert [sample["json"]["changes"] for sample in samples] == [
        list(sample.changes) for sample in recording.samples
    ]


class BrokenDesktop:
    """A desktop that fails at its second step."""

    name, version = "broken", "1"

    def __init__(self) -> None:
        self._desktop = DrawnDesktop(WIDTH, HEIGHT)
        self._num_steps = 0

    def reset(self) -> None:
        self._desktop.reset()

    def step(self, action: Action) -> Step:
        self._num_steps += 1
        if self._num_steps == 2:
            raise RuntimeError("the screen went dark")
        return self._desktop.step(action)

    def close(self) -> None:
        self._desktop.close()


def test_what_goes_wrong_in_the_desktop_is_the_episodes_error_and_leaves_no_file(
    engine: Engine, tmp_path: Path
) -> None:
    actions = actions_of(engine, OPEN_BROWSER)
    with pytest.raises(ReplayError, match="the screen went dark"):
        record(
            BrokenDesktop(),
            actions,
            FolderStore(tmp_path),
            key=("abc", 1),
            before_step=lambda: None,
        )
    assert list(tmp_path.rglob("*.tar")) == []


def test_a_payload_that_is_no_object_is_the_episodes_error(engine: Engine, tmp_path: Path) -> None:
    actions = actions_of(engine, [action_payload()])
    actions.recorded[0].payload_json = "[]"
    with pytest.raises(ReplayError, match=actions.recorded[0].event_id):
        record_in(tmp_path, actions)
