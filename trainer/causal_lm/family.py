"""A causal language model as a run sees it (`trainer.family.ModelFamily`).

In: the folder of a base model with its tokenizer, or none for a new GPT-2 over bytes. Guaranteed:
the same sample numbers give the same batch, bit for bit; a checkpoint's folder loads with
`AutoModelForCausalLM.from_pretrained` alone.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import Engine
from torch import nn

from ingest.buffer import DOCUMENT
from ingest.documents import ENVIRONMENT
from ingest.settings import Settings
from ingest.shard_store import ShardStore, open_store
from trainer.causal_lm.document_reader import DocumentReader
from trainer.causal_lm.evaluate import DocumentExaminer
from trainer.causal_lm.model import load_model, read_config
from trainer.causal_lm.packing import pack
from trainer.causal_lm.recipe import RECIPE
from trainer.causal_lm.tokens import open_tokenizer
from trainer.family import Examiner, Tensors, adamw_arguments
from trainer.mix.stream import Arrays, Reader


class CausalLMFamily:
    """The model in `base`, or a new one, trained on documents by the recipe's settings."""

    name = "causal_lm"
    representation = DOCUMENT
    environment = ENVIRONMENT
    batch_size = RECIPE.batch_size
    learning_rate = RECIPE.learning_rate
    save_every = RECIPE.save_every
    changeable_modules: Collection[str] | None = None

    def __init__(self, base: Path | None = None) -> None:
        """Raises BaseRefused where the folder holds no model, or no tokenizer for it."""
        self._base = base
        config = read_config(base)
        self._context: int = config.max_position_embeddings
        self._tokenizer = open_tokenizer(base, config.vocab_size)

    def load_model(self) -> nn.Module:
        """The base model."""
        return load_model(self._base)

    def open_reader(self, engine: Engine, store: ShardStore) -> Reader:
        """Documents as tokens."""
        return DocumentReader(engine, store, self._tokenizer, max_tokens=RECIPE.document_tokens)

    def collate(self, arrays: Arrays) -> Tensors:
        """The batch's documents as packed rows, (rows, context)."""
        documents = [
            tokens[:length]
            for tokens, length in zip(arrays["tokens"], arrays["lengths"], strict=True)
        ]
        rows = pack(documents, context=self._context, end=self._tokenizer.end)
        return {
            "input_ids": torch.from_numpy(rows.input_ids),
            "labels": torch.from_numpy(rows.labels),
        }

    def write_config(self, folder: Path) -> None:
        """Write the tokenizer; transformers itself has written the model's sizes."""
        self._tokenizer.save(folder)

    def optimizer_arguments(self) -> dict[str, Any]:
        """AdamW's settings, on the CPU."""
        return adamw_arguments(RECIPE.betas, RECIPE.weight_decay, RECIPE.max_grad_norm)

    def open_examiner(self, engine: Engine, settings: Settings) -> Examiner:
        """Documents of the `eval` split judge it."""
        return DocumentExaminer(engine, open_store(settings))
