"""Texts to tokens: by bytes, or by what lies beside a model."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from trainer.causal_lm.family import CausalLMFamily
from trainer.causal_lm.tokens import ByteTokenizer, DiskTokenizer, open_tokenizer
from trainer.family import BaseRefused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small GPT-2 on disk with a tokenizer of its own, as save_pretrained writes them."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<end>"], show_progress=False
    )
    trained.train_from_iterator(["the stove is on the stove " * 9], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained, eos_token="<end>")  # noqa: S106
    tokenizer.save_pretrained(tmp_path)
    size = {"n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 1}
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **size)).save_pretrained(tmp_path)
    return tmp_path


def test_bytes_are_tokens() -> None:
    tokens = ByteTokenizer().encode("d\u00e9j\u00e0".encode())
    assert tokens.tolist() == list("d\u00e9j\u00e0".encode())


def test_a_folders_own_tokenizer_is_used(folder: Path) -> None:
    tokenizer = open_tokenizer(folder, 300)
    assert isinstance(tokenizer, DiskTokenizer)
    tokens = tokenizer.encode(b"the stove")
    assert 0 < tokens.size < len(b"the stove")
    assert tokenizer.end not in tokens


def test_it_is_written_beside_every_checkpoint(folder: Path, tmp_path: Path) -> None:
    family = CausalLMFamily(folder)
    saved = tmp_path / "checkpoint"
    saved.mkdir()
    family.write_config(saved)
    again = DiskTokenizer(saved).encode(b"the stove is on")
    assert again.tolist() == DiskTokenizer(folder).encode(b"the stove is on").tolist()


def test_a_model_of_other_tokens_without_its_tokenizer_is_refused(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(BaseRefused, match="has no tokenizer"):
        CausalLMFamily(folder)
