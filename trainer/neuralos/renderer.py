"""The renderer: a diffusion model that turns the tracker's map into the frame's latent.

diffusers' `UNet2DModel` over the noisy latent with the map beside it; `scaled_linear` betas
0.0015 to 0.0195, 1000 steps, x0 prediction, nothing clipped, trailing spacing, so that a single
step starts from pure noise, as training did (neuralos.md 4.4, 4.6). The desktop is nearly
deterministic given the map: 1 step measured as good as 16 (neuralos.md 7.3). What the UNet predicts
is a correction of the tracker's direct prediction, the map's first C channels, and is nothing at
first: the joint stage starts where pretraining ended.
"""

import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from torch import Tensor, nn

from trainer.neuralos.config import ModelConfig

MAX_STEPS = 64


class Renderer(nn.Module):
    """The UNet with its noise schedule."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        levels = len(config.renderer_channels)
        self.unet = UNet2DModel(
            in_channels=config.latent_channels + config.map_channels,
            out_channels=config.latent_channels,
            layers_per_block=1,
            block_out_channels=config.renderer_channels,
            down_block_types=("DownBlock2D",) + ("AttnDownBlock2D",) * (levels - 1),
            up_block_types=("AttnUpBlock2D",) * (levels - 1) + ("UpBlock2D",),
            attention_head_dim=16,
            norm_num_groups=8,
        )
        nn.init.zeros_(self.unet.conv_out.weight)
        nn.init.zeros_(self.unet.conv_out.bias)
        self.training_schedule = DDPMScheduler(
            num_train_timesteps=config.num_timesteps,
            beta_start=0.0015,
            beta_end=0.0195,
            beta_schedule="scaled_linear",
            prediction_type="sample",
            clip_sample=False,
        )

    def forward(self, noisy: Tensor, maps: Tensor, timesteps: Tensor) -> Tensor:
        """(N, C, h, w), (N, map_channels, h, w), (N,) -> the clean latent, (N, C, h, w)."""
        corrected: Tensor = self.unet(torch.cat([noisy, maps], dim=1), timesteps).sample
        return maps[:, : self.config.latent_channels] + corrected

    def denoise_one(self, targets: Tensor, maps: Tensor) -> Tensor:
        """Noise `targets` at random times and predict them again; draws from torch's own RNG."""
        timesteps = torch.randint(0, self.config.num_timesteps, (len(targets),))
        noise = torch.randn_like(targets)
        noisy = self.training_schedule.add_noise(targets, noise, timesteps)
        return self.forward(noisy, maps, timesteps)

    @torch.no_grad()
    def sample(self, maps: Tensor, *, num_steps: int, generator: torch.Generator) -> Tensor:
        """DDIM from pure noise: (N, map_channels, h, w) -> normalised latents (N, C, h, w).

        Raises ValueError unless 1 <= num_steps <= 64: a user's request must not cost more.
        """
        if not 1 <= num_steps <= MAX_STEPS:
            raise ValueError(f"num_steps: {num_steps} is outside 1..{MAX_STEPS}")
        schedule = DDIMScheduler.from_config(
            self.training_schedule.config, timestep_spacing="trailing"
        )
        schedule.set_timesteps(num_steps)
        shape = (len(maps), *self.config.latent_shape)
        latents = torch.randn(shape, generator=generator)
        for timestep in schedule.timesteps:
            predicted = self.forward(latents, maps, timestep)
            latents = schedule.step(predicted, timestep, latents).prev_sample
        return latents
