"""The numbers of a step, by name; `METRICS` says what each one is.

A metric belongs to (run, branch, step). Values are float64; one that is not a number is stored as
NULL, shown, and never replaced by an average; one that was not measured has no row.
"""

from trainer.mix.sampler import MixStatus

SHARE_WANTED = "share_wanted:"
HEALTH_METRIC = "health:"

METRICS = {
    "loss": "mean loss over the step's micro-batches, as the model returned it",
    "grad_norm": "L2 norm of all gradients before clipping",
    "lr": "learning rate of the first parameter group, read inside the optimizer's step",
    "step_s": "wall seconds from the boundary before the step to the one after it",
    "starved": "number of slices that could not supply their share of the step",
    "update_ratio": "L2 norm of one step's change of the weights over theirs, at every 20th step",
    "share_wanted:<slice>": "the mix's share of the slice",
    "share_actual:<slice>": "the slice's share of all draws since the mix took effect",
    "health:<signal>": "the signal's value, at the steps at which it is on",
    "eval:<suite>:balanced_accuracy": "balanced transition accuracy of the step's checkpoint",
    "eval:<suite>:loss": "mean loss of the step's checkpoint on held-out documents, nats a token",
}


def step_metrics(
    *,
    loss: float,
    grad_norm: float | None,
    update_ratio: float | None,
    lr: float,
    step_s: float,
    mix: MixStatus,
) -> dict[str, float]:
    """The metrics of one step, by name; None is left out."""
    metrics = {"loss": loss, "lr": lr, "step_s": step_s, "starved": float(len(mix.starved))}
    measured = {"grad_norm": grad_norm, "update_ratio": update_ratio}
    metrics |= {name: value for name, value in measured.items() if value is not None}
    metrics |= {SHARE_WANTED + name: share for name, share in mix.wanted.items()}
    return metrics | {f"share_actual:{name}": share for name, share in mix.actual.items()}
