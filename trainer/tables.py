"""The tables of data used: runs, commands, adoptions, steps, metrics, health, checkpoints ...

Times are seconds since 1970 in UTC, as float. No torch here: the API reads these too.
"""

from sqlalchemy import ForeignKey, Index, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from ingest.tables import Base

# What stands in place of a representation for a run that draws from its author's own dataset.
DATASET = "dataset"


class Run(Base):
    """One training job's life over restarts and branches.

    state: starting, running, paused, stopping, stopped, finished, failed, lost.
    """

    __tablename__ = "runs"
    run_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    recipe: Mapped[str]  # the model family by its name in `recipes`
    config_json: Mapped[str]
    state: Mapped[str]
    branch: Mapped[str]
    step: Mapped[int]  # the last finished one of the branch
    max_steps: Mapped[int]
    lr: Mapped[float]
    mix_name: Mapped[str]
    mix_version: Mapped[int]
    representation: Mapped[str]  # pinned, e.g. "latent:<encoder hash>"
    environment: Mapped[str]  # pinned, e.g. "drawn/1"
    command_counter: Mapped[int]
    fence: Mapped[int]  # grows with each holder; an older one's writes are refused
    holder: Mapped[str | None]
    lease_expires_at: Mapped[float | None]
    error: Mapped[str | None]
    signals: Mapped[str] = mapped_column(default="")  # of its health, those that are on; spaced
    created_at: Mapped[float]
    updated_at: Mapped[float]


class Branch(Base):
    """A run's line after a rollback; the first is `main`."""

    __tablename__ = "branches"
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    parent: Mapped[str | None]
    from_step: Mapped[int]
    from_checkpoint: Mapped[str | None]
    from_adoption: Mapped[int]  # the last adoption that its checkpoint had seen; 0: none
    created_at: Mapped[float]


# States of a command that its run has yet to settle, in the order in which it passes them.
UNSETTLED = ("pending", "received", "applying")


class Command(Base):
    """Something asked of a run.

    state: proposed, pending, received, applying, applied, rejected, failed, expired, cancelled.
    """

    __tablename__ = "commands"
    command_id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"))
    number: Mapped[int]  # the order of all commands of a run; a proposal's is new once approved
    kind: Mapped[str]
    args_json: Mapped[str]
    reason: Mapped[str]
    actor: Mapped[str]
    state: Mapped[str]
    created_at: Mapped[float]
    received_at: Mapped[float | None]
    settled_at: Mapped[float | None]
    branch: Mapped[str | None]
    effective_step: Mapped[int | None]  # the first step under it
    before_json: Mapped[str | None]
    after_json: Mapped[str | None]
    error: Mapped[str | None]
    idempotency_key: Mapped[str | None]  # the caller's own, for a request that may come twice
    request_digest: Mapped[str | None]  # of what came with it
    max_lr_factor: Mapped[float | None]  # how far its key may move a rate from the one in force
    decided_by: Mapped[str | None]  # of a proposal: who approved or refused it
    decided_at: Mapped[float | None]
    decision_reason: Mapped[str | None]
    __table_args__ = (
        UniqueConstraint("run_id", "number"),
        UniqueConstraint("run_id", "actor", "idempotency_key"),
        Index(None, "run_id", "state"),
    )


class Adoption(Base):
    """The step boundary at which a run took over a newer revision of the buffer."""

    __tablename__ = "adoptions"
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    branch: Mapped[str]
    effective_step: Mapped[int]  # the first step that sees it
    revision: Mapped[int]
    adopted_at: Mapped[float]


class AdoptionChange(Base):
    """What one adoption added to and removed from one slice, so that it can be replayed."""

    __tablename__ = "adoption_changes"
    run_id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    slice: Mapped[str] = mapped_column(primary_key=True)
    num_added: Mapped[int]
    num_removed: Mapped[int]
    added: Mapped[bytes] = mapped_column(LargeBinary)  # sample numbers, see cohorts.pack_numbers
    owners: Mapped[bytes] = mapped_column(LargeBinary)  # of the added, packed in their order
    is_change: Mapped[bytes] = mapped_column(LargeBinary)  # of the added: 0 or 1, packed
    removed: Mapped[bytes] = mapped_column(LargeBinary)


class Step(Base):
    """One optimizer step as it happened: the draw log, and the lineage of every checkpoint."""

    __tablename__ = "steps"
    run_id: Mapped[str] = mapped_column(primary_key=True)
    branch: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    started_at: Mapped[float]  # wall clock, before its first micro-batch was taken
    lr: Mapped[float]  # read from the optimizer inside its step
    samples: Mapped[bytes] = mapped_column(LargeBinary)  # numbers in draw order, packed


class Metric(Base):
    """One number of one step."""

    __tablename__ = "metrics"
    run_id: Mapped[str] = mapped_column(primary_key=True)
    branch: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[float | None]  # None: not a number, which neither SQLite nor JSON can hold


class HealthSignal(Base):
    """A signal of a run's health that started or ended with a step; see `health_detectors`.

    state: started, ended.
    """

    __tablename__ = "health_signals"
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    branch: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    value: Mapped[float | None]  # None: not a number
    threshold: Mapped[float]
    message: Mapped[str]
    command_id: Mapped[str | None]  # the policy's last answer to it
    at: Mapped[float]


class Checkpoint(Base):
    """A verified, restorable state of a run; listed only once its manifest checks out.

    Its files are gone once `removed_at` is set.
    """

    __tablename__ = "checkpoints"
    checkpoint_id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), index=True)
    branch: Mapped[str]
    step: Mapped[int]
    lr: Mapped[float]  # in force there, of the first parameter group
    name: Mapped[str]
    note: Mapped[str]
    path: Mapped[str]  # relative to the runs folder
    digest: Mapped[str]  # blake3 of the manifest
    num_bytes: Mapped[int]
    is_kept: Mapped[bool]  # else it goes when newer ones of its branch have come
    created_at: Mapped[float]
    removed_at: Mapped[float | None]
    __table_args__ = (UniqueConstraint("run_id", "name"),)


class Evaluation(Base):
    """One suite judged on one checkpoint.

    state: waiting, leased, done, failed.
    """

    __tablename__ = "evaluations"
    evaluation_id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), index=True)
    checkpoint_id: Mapped[str] = mapped_column(ForeignKey("checkpoints.checkpoint_id"))
    suite: Mapped[str]
    command_id: Mapped[str | None]
    state: Mapped[str]
    lease_expires_at: Mapped[float | None]
    attempts: Mapped[int]
    result_json: Mapped[str | None]
    error: Mapped[str | None]
    created_at: Mapped[float]
    finished_at: Mapped[float | None]
