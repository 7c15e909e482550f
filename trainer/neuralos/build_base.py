"""`make base-model`: the shipped encoder and base model, made again from their seeds.

encoder   frames of many desktops              build/base-model/encoder/
tracks    simulated old-skill use, encoded     build/base-model/tracks.npz
tracker   pretrained on its direct prediction  build/base-model/tracker/
joint     tracker and renderer together        build/base-model/joint/
shipped   copied to trainer/neuralos/base/

A stage whose result is in the work folder is not repeated. One task in a hundred of the simulated
use is drawn from the fresh ones: the base rarely saw a browser or a new folder.
"""

import argparse
import itertools
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import structlog
import torch

from ingest.actions import Action
from ingest.simulate import (
    COMPACT,
    FRESH,
    NATURAL,
    OLD_SKILLS,
    TaskWeights,
    mixed,
    simulate_session,
)
from trainer.neuralos.build_bank import Bank
from trainer.neuralos.build_encoder import EncoderTraining, train_encoder
from trainer.neuralos.build_model import ModelTraining, train_model
from trainer.neuralos.config import ModelConfig
from trainer.neuralos.encoder import SHIPPED, Encoder
from trainer.neuralos.held_out import replay
from trainer.neuralos.model import NeuralOS
from trainer.neuralos.recipe import RECIPE
from trainer.neuralos.rollout import Track

log = structlog.get_logger()

FRESH_SHARE = 0.002
NUM_SESSIONS = 240
TASKS_A_SESSION = 11
FIRST_SEED = 1_000_000  # far from every seed that demo and evaluation use

ENCODER = EncoderTraining(num_steps=5_000, batch_size=8, learning_rate=1.5e-3)
TRACKER = ModelTraining(stage="tracker", num_steps=600)
JOINT = ModelTraining(stage="joint", num_steps=900)
NUM_WEIGHED_FRAMES = 64


def build(work: Path, shipped: Path) -> None:
    """Run the stages that are still to do and copy the result to `shipped`."""
    encoder = _encoder(work / "encoder")
    tracks = _tracks(work / "tracks.npz", encoder)
    bank = Bank(tracks, window=RECIPE.window)
    torch.manual_seed(TRACKER.seed)
    model = NeuralOS(_config(encoder, tracks))
    for name, training in (("tracker", TRACKER), ("joint", JOINT)):
        folder = work / name
        if not (folder / "model.json").exists():
            started = time.monotonic()
            train_model(model, bank, training)
            model.save(folder)
            log.info("stage_finished", stage=name, seconds=round(time.monotonic() - started))
        model = NeuralOS.load(folder)
    shipped.mkdir(exist_ok=True)
    for part in ("encoder/encoder", "joint/model"):
        for suffix in (".json", ".safetensors"):
            shutil.copy((work / part).with_suffix(suffix), shipped)


def simulated_tracks(
    weights: TaskWeights, *, first_seed: int, num_sessions: int, encoder: Encoder
) -> list[Track]:
    """Sessions of simulated people, every fourth at a natural pace, replayed and encoded."""
    tracks = []
    for number in range(num_sessions):
        pace = NATURAL if number % 4 == 3 else COMPACT
        done = simulate_session(first_seed + number, weights, num_tasks=TASKS_A_SESSION, pace=pace)
        actions = [Action.from_payload(action.payload) for action in done]
        config = encoder.config
        seen = replay(actions, width=config.width, height=config.height)
        tracks.append(Track(encoder.encode(seen.frames), seen.actions))
    return tracks


def _encoder(folder: Path) -> Encoder:
    if not (folder / "finished").exists():
        started = time.monotonic()
        train_encoder(ENCODER, folder)
        (folder / "finished").touch()
        log.info("stage_finished", stage="encoder", seconds=round(time.monotonic() - started))
    return Encoder.load(folder)


def _tracks(path: Path, encoder: Encoder) -> Sequence[Track]:
    if not path.exists():
        tracks = simulated_tracks(
            mixed(OLD_SKILLS, FRESH, FRESH_SHARE),
            first_seed=FIRST_SEED,
            num_sessions=NUM_SESSIONS,
            encoder=encoder,
        )
        _store(path, tracks)
    with np.load(path) as stored:
        lengths = itertools.pairwise(stored["bounds"])
        latents, actions = stored["latents"], stored["actions"]
    return [
        Track(latents[begin:end].astype(np.float32), actions[begin:end]) for begin, end in lengths
    ]


def _store(path: Path, tracks: Sequence[Track]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name("partial.npz")
    np.savez(
        partial,
        latents=np.concatenate([track.latents for track in tracks]).astype(np.float16),
        actions=np.concatenate([track.actions for track in tracks]),
        bounds=np.cumsum([0, *(len(track.actions) for track in tracks)]),
    )
    partial.replace(path)


def _config(encoder: Encoder, tracks: Sequence[Track]) -> ModelConfig:
    return ModelConfig(
        encoder_hash=encoder.hash,
        latent_mean=tuple(encoder.latent_mean.tolist()),
        latent_std=tuple(encoder.latent_std.tolist()),
        latent_weights=latent_weights(encoder, tracks),
    )


@torch.no_grad()
def latent_weights(encoder: Encoder, tracks: Sequence[Track]) -> tuple[float, ...]:
    """A weight for each latent channel, mean 1: the pixels' RMS change when it moves at random.

    The square root of the squared error that a channel's own deviation makes: the error itself
    would leave 1 % to the channels that hold text and pointers (90 : 1 between first and last).
    """
    frames = np.concatenate([track.latents for track in tracks])
    chosen = frames[:: max(len(frames) // NUM_WEIGHED_FRAMES, 1)][:NUM_WEIGHED_FRAMES]
    latents = torch.from_numpy(chosen)
    generator = torch.Generator().manual_seed(FIRST_SEED)
    rebuilt = encoder.reconstruct(latents)
    changes = []
    for channel, deviation in enumerate(encoder.latent_std):
        moved = latents.clone()
        moved[:, channel] += deviation * torch.randn(moved[:, channel].shape, generator=generator)
        changes.append((encoder.reconstruct(moved) - rebuilt).square().mean().sqrt())
    weights = torch.stack(changes)
    return tuple((weights / weights.mean()).tolist())


def main() -> None:
    """Build with every core; see the module's text."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/base-model"))
    parser.add_argument("--shipped", type=Path, default=SHIPPED)
    arguments = parser.parse_args()
    build(arguments.work, arguments.shipped)


if __name__ == "__main__":
    main()
