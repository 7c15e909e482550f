"""Tasks are named from change labels."""

from ingest.replay.tasks import tasks_of


def test_tasks_come_once_each_in_the_order_they_were_done() -> None:
    changes = [
        "icon_selected",
        "window_opened:browser",
        "page_loaded",
        "window_closed:browser",
        "window_opened:browser",
        "folder_created",
    ]
    assert tasks_of(changes) == ("open_browser", "browse_page", "close_window", "create_folder")


def test_an_aimless_episode_has_no_task() -> None:
    assert tasks_of(["icon_selected", "text_typed", "selection_cleared"]) == ()
