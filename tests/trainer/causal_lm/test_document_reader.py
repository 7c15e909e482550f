"""Documents by their sample numbers; a shard that is gone or damaged is told apart."""

import threading

import numpy as np
import pytest
from sqlalchemy import Engine, select, update

from ingest.database import read, write
from ingest.documents import place_documents
from ingest.forgetting.forget import Forgetting
from ingest.forgetting.tombstones import Identity
from ingest.log import open_log
from ingest.settings import Settings
from ingest.shard_store import open_store
from ingest.tables import Sample, Shard
from tests.factories import make_documents, make_samples, make_session
from tests.trainer.causal_lm.conftest import Hold
from trainer.causal_lm.document_reader import DocumentReader
from trainer.causal_lm.tokens import ByteTokenizer
from trainer.mix.permutation import IntArray
from trainer.mix.stream import SamplesForgotten, ShardDamaged

TEXTS = ["one", "d\u00e9j\u00e0 vu", "x" * 2_000]


@pytest.fixture
def reader(engine: Engine, settings: Settings, hold: Hold) -> DocumentReader:
    hold(TEXTS)
    return DocumentReader(engine, open_store(settings), ByteTokenizer(), max_tokens=1_000)


def numbers(engine: Engine) -> IntArray:
    with read(engine) as session:
        return np.array(session.scalars(select(Sample.number).order_by(Sample.number)).all())


def test_texts_come_whole_and_in_order(reader: DocumentReader, engine: Engine) -> None:
    backwards = numbers(engine)[::-1]
    assert reader.texts(backwards) == [text.encode() for text in TEXTS[::-1]]


def test_a_batch_has_one_entry_a_sample_and_takes_no_more_than_its_bound(
    reader: DocumentReader, engine: Engine
) -> None:
    batch = reader.read(numbers(engine))
    assert batch["lengths"].tolist() == [3, 9, 1_000]
    assert batch["tokens"].shape == (3, 1_000)
    assert bytes(batch["tokens"][1, :9].astype(np.uint8)).decode() == TEXTS[1]
    assert batch["sample_numbers"].tolist() == numbers(engine).tolist()


def test_a_sample_that_is_no_document_is_named(reader: DocumentReader, engine: Engine) -> None:
    with write(engine) as session:
        [number, *_] = make_samples(session)
    with pytest.raises(ValueError, match=f"sample {number} has no place in document"):
        reader.prepare(np.array([number]))


def test_a_flipped_bit_is_damage(
    reader: DocumentReader, engine: Engine, settings: Settings
) -> None:
    [path] = settings.shards_path.glob("documents/*/*.tar")
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardDamaged, match="blake3 is"):
        reader.read(numbers(engine))


def test_a_wrong_offset_is_damage(reader: DocumentReader, engine: Engine) -> None:
    with write(engine) as session:
        session.connection().exec_driver_sql('UPDATE placements SET "offset" = "offset" + 512')
    with pytest.raises(ShardDamaged, match="is not the document of"):
        reader.read(numbers(engine)[:1])


def test_a_shard_that_moved_is_found_again(
    reader: DocumentReader, engine: Engine, settings: Settings
) -> None:
    wanted = numbers(engine)
    reader.prepare(wanted)
    [path] = settings.shards_path.glob("documents/*/*.tar")
    path.rename(settings.shards_path / "moved.tar")
    with write(engine) as session:
        session.execute(update(Shard).values(path="moved.tar"))
    assert reader.texts(wanted[:1]) == [b"one"]


def test_one_thread_may_prepare_while_another_reads(reader: DocumentReader, engine: Engine) -> None:
    wanted = numbers(engine)
    preparing = threading.Thread(target=reader.prepare, args=(wanted,))
    preparing.start()
    assert len(reader.texts(wanted)) == len(TEXTS)
    preparing.join()


def test_when_somebody_is_forgotten_the_others_of_their_shard_are_found_again(
    engine: Engine, settings: Settings
) -> None:
    with write(engine) as session:
        make_documents(session, make_session(session, session_id="ann"), ["of ann"])
        make_documents(session, make_session(session, session_id="bob"), ["of bob"])
    store = open_store(settings)
    place_documents(engine, store)
    [anns, bobs] = numbers(engine)
    reader, late = (
        DocumentReader(engine, store, ByteTokenizer(), max_tokens=100) for _ in range(2)
    )
    reader.prepare(np.array([anns, bobs]))
    with open_log(settings) as event_log:
        Forgetting(engine, store, event_log).forget(Identity("session", "demo", "ann"))
    for each in (reader, late):
        each.prepare(np.array([anns, bobs]))
        assert each.texts(np.array([bobs])) == [b"of bob"]
        with pytest.raises(SamplesForgotten, match="is forgotten"):
            each.texts(np.array([anns]))
        each.close()
