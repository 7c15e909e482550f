"""The model that a run starts from: a new GPT-2 over bytes, or what a folder on disk holds.

Guaranteed: nothing is fetched from anywhere; the weights of a new model come from torch's own
generator; and every part with weights can be reset, the way its author initialises it.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils.logging import disable_progress_bar

from trainer.causal_lm.recipe import RECIPE
from trainer.causal_lm.tokens import END_OF_BYTES, NUM_BYTE_TOKENS
from trainer.family import BaseRefused

CONFIG_NAME = "config.json"


def new_config() -> GPT2Config:
    """A small GPT-2 over bytes, dropout on, as the recipe says."""
    return GPT2Config(
        vocab_size=NUM_BYTE_TOKENS,
        n_positions=RECIPE.context,
        n_embd=RECIPE.width,
        n_layer=RECIPE.num_layers,
        n_head=RECIPE.num_heads,
        bos_token_id=END_OF_BYTES,
        eos_token_id=END_OF_BYTES,
    )


def read_config(base: Path | None) -> PretrainedConfig:
    """The sizes of the model in a folder, or of a new one.

    Raises BaseRefused for a folder without a model.
    """
    if base is None:
        return new_config()
    if not (base / CONFIG_NAME).is_file():
        raise BaseRefused(
            f"base: {base} holds no {CONFIG_NAME}; give a folder that "
            "save_pretrained wrote, or a checkpoint's"
        )
    config: PretrainedConfig = AutoConfig.from_pretrained(base, local_files_only=True)
    return config


def load_model(base: Path | None) -> PreTrainedModel:
    """The model in a folder (without dropout until it is trained), or a new one, in float32."""
    # transformers draws one at every load and every checkpoint
    disable_progress_bar()  # type: ignore[no-untyped-call]
    model: object
    if base is None:
        model = GPT2LMHeadModel(new_config())
    else:
        model = AutoModelForCausalLM.from_pretrained(
            base, dtype=torch.float32, local_files_only=True
        )
    assert isinstance(model, PreTrainedModel)
    model.loss_type = "ForCausalLM"  # the default, said aloud: else a GPT-2 warns that it has none
    _make_resettable(model)
    return model


def _make_resettable(model: PreTrainedModel) -> None:
    """Give each part with weights the `reset_parameters` that the command of this name looks for.

    torch's own would draw embeddings 50 times too large for GPT-2, and GPT-2's `Conv1D` has none.
    """
    for part in model.modules():
        if next(part.parameters(recurse=False), None) is not None:
            part.reset_parameters = partial(_reset, model, part)  # type: ignore[assignment]


def _reset(model: PreTrainedModel, part: nn.Module) -> None:
    for parameter in part.parameters(recurse=False):
        parameter._is_hf_initialized = False  # type: ignore[attr-defined]  # else it is left alone
    untyped: Any = model
    untyped._init_weights(part)
