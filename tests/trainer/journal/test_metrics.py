"""The numbers of a step: what is recorded is what METRICS explains."""

from trainer.journal.metrics import METRICS, step_metrics
from trainer.mix.sampler import MixStatus

MIX = MixStatus({"old": 0.5, "fresh": 0.5}, {"old": 0.75, "fresh": 0.25}, ("fresh",))


def recorded(grad_norm: float | None = 2.0) -> dict[str, float]:
    return step_metrics(
        loss=1.0, grad_norm=grad_norm, update_ratio=1e-3, lr=0.1, step_s=0.2, mix=MIX
    )


def test_every_recorded_metric_is_explained() -> None:
    names = {name.split(":")[0] for name in recorded()}
    assert names <= {name.split(":")[0] for name in METRICS}


def test_wanted_and_actual_shares_stand_side_by_side() -> None:
    metrics = recorded()
    assert (metrics["share_wanted:fresh"], metrics["share_actual:fresh"]) == (0.5, 0.25)


def test_starved_slices_are_counted() -> None:
    assert recorded()["starved"] == 1.0


def test_what_was_not_measured_is_no_metric() -> None:
    assert set(recorded()) - set(recorded(grad_norm=None)) == {"grad_norm"}
