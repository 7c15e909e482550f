"""The numbers of a step, by name; `METRICS` says what each one is.

A metric belongs to (run, branch, step). Values are float64; one that is not a number is stored as
NULL, shown, and never replaced by an average.
"""

from trainer.mix import MixStatus

METRICS = {
    "loss": "mean loss over the step's micro-batches, as the model returned it",
    "grad_norm": "L2 norm of all gradients before clipping",
    "lr": "learning rate of the first parameter group, read inside the optimizer's step",
    "step_s": "wall seconds from the boundary before the step to the one after it",
    "starved": "number of slices that could not supply their share of the step",
    "share_wanted:<slice>": "the mix's share of the slice",
    "share_actual:<slice>": "the slice's share of all draws since the mix took effect",
    "eval:<suite>:balanced_accuracy": "balanced transition accuracy of the step's checkpoint",
}


def step_metrics(
    *, loss: float, grad_norm: float, lr: float, step_s: float, mix: MixStatus
) -> dict[str, float]:
    """The metrics of one step, by name."""
    metrics = {
        "loss": loss,
        "grad_norm": grad_norm,
        "lr": lr,
        "step_s": step_s,
        "starved": float(len(mix.starved)),
    }
    metrics |= {f"share_wanted:{name}": share for name, share in mix.wanted.items()}
    return metrics | {f"share_actual:{name}": share for name, share in mix.actual.items()}
