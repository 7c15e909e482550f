"""An installation with documents, and a GPT-2 whose runs are seen from outside."""

import threading
from collections.abc import Callable, Sequence

import pytest
from sqlalchemy import Engine
from torch import nn

from ingest.database import write
from ingest.documents import place_documents
from ingest.settings import Settings
from ingest.shard_store import open_store
from ingest.slices import save_mix, save_slice
from tests.factories import make_documents, make_session
from tests.trainer.runs import NOW
from tests.trainer.tiny import Witness
from trainer.causal_lm.family import CausalLMFamily
from trainer.family import Tensors
from trainer.mix.stream import Arrays
from trainer.run.rows import RunOptions, find_or_make_run
from trainer.run.training import Workplace, train

Hold = Callable[..., None]
NUM_VISITS = 12  # more than ten owners, so that the cap on one's share holds


def prose(number: int) -> str:
    return f"Once upon a time, for the {number}th time, there was a kitchen with a stove. " * 2


def code(number: int) -> str:
    return f"def stove_{number}(pot):\n    return [pot] * {number}\n" * 3


class WatchedFamily(CausalLMFamily):
    """The real family; a witness sees its batches and its losses."""

    def __init__(self, witness: Witness) -> None:
        super().__init__()
        self._witness = witness

    def load_model(self) -> nn.Module:
        model = super().load_model()
        model.register_forward_hook(lambda _model, _given, out: self._witness.forward(out.loss))
        return model

    def collate(self, arrays: Arrays) -> Tensors:
        self._witness.batch(arrays["sample_numbers"])
        return super().collate(arrays)


@pytest.fixture
def hold(engine: Engine, settings: Settings) -> Hold:
    """Puts documents into the buffer: a visit of `source` with these texts."""

    def put(texts: Sequence[str], *, source: str = "demo", split: str = "train") -> None:
        with write(engine) as session:
            make_documents(session, make_session(session, source=source, split=split), texts)
        place_documents(engine, open_store(settings))

    return put


@pytest.fixture
def witness() -> Witness:
    return Witness()


@pytest.fixture
def place(engine: Engine, settings: Settings, hold: Hold) -> Workplace:
    """Where runs are trained; a mix of `prose` and one of `code`, 24 documents each."""
    for source, write_one in (("prose", prose), ("code", code)):
        for visit in range(NUM_VISITS):
            hold([write_one(2 * visit + n) for n in range(2)], source=source)
    with write(engine) as session:
        for source in ("prose", "code"):
            save_slice(session, source, f"source:{source}", actor="test", now=NOW)
            save_mix(session, source, {source: 1.0}, actor="test", now=NOW)
    often = settings.model_copy(update={"adopt_every_s": 0.02})
    return Workplace(engine, often, threading.Event())


@pytest.fixture
def training(place: Workplace, witness: Witness) -> Callable[..., str]:
    """Trains (or resumes) a run; gives the state in which it ended."""

    def train_run(max_steps: int, *, name: str = "run", **options: object) -> str:
        family = WatchedFamily(witness)
        asked = RunOptions.model_validate({"max_steps": max_steps, "mix": "prose", **options})
        run = find_or_make_run(place.engine, name, asked, family)
        with witness.watching():
            return train(place, run, family)

    return train_run
