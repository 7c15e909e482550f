"""The registry of model families."""

import subprocess
import sys
from pathlib import Path

import pytest

from trainer.family import BaseRefused, open_family
from trainer.recipes import RECIPES, UnknownRecipe


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_opens_the_family_of_its_name(recipe: str) -> None:
    assert open_family(recipe).name == recipe


def test_an_unknown_recipe_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownRecipe, match="'poetry' is none of neuralos, causal_lm"):
        open_family("poetry")


def test_a_base_that_holds_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseRefused, match=r"holds no config\.json"):
        open_family("causal_lm", tmp_path)


def test_to_know_the_names_takes_no_torch() -> None:
    line = "import sys, trainer.recipes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", line], check=False).returncode == 0
