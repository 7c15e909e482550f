"""Texts to token numbers: by the tokenizer in a model's folder, or byte by byte where it has none.

Byte by byte, token n is byte n and 256 ends a text: no vocabulary to train or to ship, any text in
any language, and a loss that is one of bytes.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from trainer.family import BaseRefused

Tokens = NDArray[np.int64]
END_OF_BYTES = 256
NUM_BYTE_TOKENS = 257
# Any of these makes a folder one with a tokenizer.
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")


class Tokenizer(Protocol):
    """How a model reads texts; `end` is the token after the last one of a text."""

    end: int

    def encode(self, text: bytes) -> Tokens:
        """A text, UTF-8, as token numbers without any that the text does not hold."""

    def save(self, folder: Path) -> None:
        """Write it beside a model."""


class ByteTokenizer:
    """Token n is byte n; needs no file."""

    end = END_OF_BYTES

    def encode(self, text: bytes) -> Tokens:
        """One token a byte."""
        return np.frombuffer(text, np.uint8).astype(np.int64)

    def save(self, folder: Path) -> None:
        """A folder without a tokenizer means this one."""


class DiskTokenizer:
    """The tokenizer in a folder, as `transformers` reads it."""

    def __init__(self, folder: Path) -> None:
        """Raises BaseRefused where it has no token that ends a text."""
        self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True
        )
        end = self._tokenizer.eos_token_id
        if not isinstance(end, int):
            raise BaseRefused(f"base: the tokenizer in {folder} names no eos_token; give it one")
        self.end = end

    def encode(self, text: bytes) -> Tokens:
        """The text's tokens; none is added and none is cut off."""
        ids = self._tokenizer(text.decode(), add_special_tokens=False, verbose=False)["input_ids"]
        return np.array(ids, np.int64)

    def save(self, folder: Path) -> None:
        """Write it as `transformers` does."""
        self._tokenizer.save_pretrained(folder)


def open_tokenizer(folder: Path | None, vocab_size: int) -> Tokenizer:
    """The tokenizer of a model in a folder; bytes for a new model.

    Raises BaseRefused for a folder without one whose model was not made for bytes.
    """
    if folder is not None and any((folder / name).exists() for name in _TOKENIZER_FILES):
        return DiskTokenizer(folder)
    if vocab_size != NUM_BYTE_TOKENS:
        raise BaseRefused(
            f"base: {folder} has no tokenizer and its model {vocab_size} tokens, where bytes need "
            f"{NUM_BYTE_TOKENS}; put its tokenizer beside it"
        )
    return ByteTokenizer()
