"""Papers on low-precision training and quantization as functions, one paper or idea a module.

>>> from slipstick.lowbit import studies
>>> studies.ScalingLaw().best_split(8)  # exponent and mantissa bits of the best 8-bit format
(4, 3)

| module | question | paper |
|---|---|---|
| `bit_reduction` | what is left of a number with fewer bits, cut off? | To FP8 and Back Again, arXiv 2405.18710 |
| `sharpness` | how sharp is the loss around the logits? | the same; Keskar et al., arXiv 1609.04836 |
| `stability` | for which formats, seeds and learning rates does training diverge? | the same; Wortsman et al., arXiv 2309.14322 |
| `scaling_law` | what does a format cost a model of a size, and how many bits are best? | Sun et al., arXiv 2501.02423 |
| `bit_allocation` | which column gets how many bits? | BAQ, arXiv 2506.05664 |
| `evolutionary_search` | which layer gets how many bits, if layers interact? | EvoPress, arXiv 2410.14649 |
| `space_utilization` | how well do data fill a quantizer's range, and which transform helps? | OSTQuant, arXiv 2501.13987 |
| `power_exponent` | which power quantizer suits these weights? | PowerQuant and NUPES, arXiv 2308.05600 |
| `elastic` | how is one network trained for many bit widths? | EQ-Net, arXiv 2308.07650 |

Each module says what of its paper it leaves out. Arrays go in and NumPy arrays come out; torch tensors are taken where numbers are only looked at,
and give tensors in `elastic`. SciPy and matplotlib are imported where they are needed, torch never.
"""

from __future__ import annotations

from .bit_allocation import allocation_loss, column_coefficients, equal_loss_bits, integer_bits, measured_bits, released_levels
from .bit_reduction import clip_exponent, mask_mantissa, reduce_bits
from .elastic import UNIFORM_KURTOSIS, guidance_losses, skewness_and_kurtosis, weight_distribution_loss
from .evolutionary_search import PAPER_STAGES, EvolutionarySearch, evolutionary_search, kl_divergence
from .power_exponent import ExponentSearch, power_dequantize, power_quantize, reconstruction_error, search_exponent
from .scaling_law import CHANNEL_WISE_BLOCK_SIZE, ComputeOptimum, ScalingLaw, ScalingLawFit
from .scaling_law import fit as fit_scaling_law
from .sharpness import cross_entropy, logit_sharpness
from .space_utilization import equalizing_rotation, hadamard, log_space_utilization, space_utilization, whitening_transform
from .stability import Run, Sweep, learning_rate_sensitivity, sweep

__all__ = [
    "CHANNEL_WISE_BLOCK_SIZE",
    "PAPER_STAGES",
    "UNIFORM_KURTOSIS",
    "ComputeOptimum",
    "EvolutionarySearch",
    "ExponentSearch",
    "Run",
    "ScalingLaw",
    "ScalingLawFit",
    "Sweep",
    "allocation_loss",
    "clip_exponent",
    "column_coefficients",
    "cross_entropy",
    "equal_loss_bits",
    "equalizing_rotation",
    "evolutionary_search",
    "fit_scaling_law",
    "guidance_losses",
    "hadamard",
    "integer_bits",
    "kl_divergence",
    "learning_rate_sensitivity",
    "log_space_utilization",
    "logit_sharpness",
    "mask_mantissa",
    "measured_bits",
    "power_dequantize",
    "power_quantize",
    "reconstruction_error",
    "reduce_bits",
    "released_levels",
    "search_exponent",
    "skewness_and_kurtosis",
    "space_utilization",
    "sweep",
    "weight_distribution_loss",
    "whitening_transform",
]
