"""What the database says of the one run, and what is asked of it there."""

from sqlalchemy import Engine, func, select

from ingest.database import read, write
from tests.trainer.runs import ask
from trainer.tables import Metric, Run, Step

Taken = dict[int, tuple[float, bytes, float | None]]  # by step: rate, sample numbers, loss


def recorded_steps(engine: Engine) -> Taken:
    """Every step, in order, as of one moment."""
    is_loss = (Metric.run_id == Step.run_id) & (Metric.step == Step.step) & (Metric.name == "loss")
    rows = select(Step.step, Step.lr, Step.samples, Metric.value).join(Metric, is_loss)
    with read(engine) as session:
        return {
            step: (lr, bytes(samples), loss)
            for step, lr, samples, loss in session.execute(rows.order_by(Step.step))
        }


def num_steps(engine: Engine) -> int:
    """How many there are."""
    with read(engine) as session:
        return session.scalar(select(func.count()).select_from(Step)) or 0


def ask_for_checkpoint(engine: Engine) -> None:
    """Let the run, if there is one by now, save a checkpoint soon."""
    with write(engine) as session:
        if run := session.scalar(select(Run)):
            ask(session, "save", run.run_id)
