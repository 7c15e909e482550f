"""The model families by the name that `--recipe` takes: the only place that knows them all.

No torch here: the command line reads it, too; `trainer.family.open_family` opens one.
"""

from collections.abc import Mapping
from typing import Final

RECIPES: Final[Mapping[str, str]] = {
    "neuralos": "trainer.neuralos.family:NeuralOSFamily",
    "causal_lm": "trainer.causal_lm.family:CausalLMFamily",
}
DEFAULT_RECIPE: Final = "neuralos"


class UnknownRecipe(ValueError):
    """No model family has this name; the message says which there are."""


def class_of(recipe: str) -> tuple[str, str]:
    """A family's module and class. Raises UnknownRecipe."""
    if recipe not in RECIPES:
        raise UnknownRecipe(f"recipe: {recipe[:80]!r} is none of {', '.join(RECIPES)}")
    module, _, name = RECIPES[recipe].partition(":")
    return module, name
