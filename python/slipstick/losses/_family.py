"""The public losses beyond cross-entropy, by the file that holds them; a file is imported when one of its names is first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

NAMES: dict[str, tuple[str, ...]] = {
    "_aggregate": ("aggregate_cross_entropy",),
    "_comp_sum": ("comp_sum_loss", "smooth_adversarial_comp_sum_loss"),
    "_coverage": ("dco_loss",),
    "_dice": ("all_class_dice_loss", "dice_loss"),
    "_difference": ("logit_difference_cross_entropy",),
    "_distillation": ("distillation_loss", "subset_distillation_loss", "top_k_distillation_loss"),
    "_ensemble": ("ens_loss",),
    "_likelihood": ("focal_loss", "label_smoothed_cross_entropy", "log_partition_penalty"),
    "_maps": ("stablemax_cross_entropy",),
    "_optimizer": ("perpendicular_gradient", "project_gradients"),
    "_policy": ("policy_gradient_loss",),
    "_preference": ("dpo_loss", "kto_loss", "npo_loss", "orpo_loss", "sequence_log_prob", "simnpo_loss", "simpo_loss"),
    "_reweighting": ("loss_based_weights", "reweighted_cross_entropy"),
    "_robust": ("aldr_kl_loss", "lagged_aldr_kl_loss", "ldr_k_kl_loss", "ldr_kl_loss"),
    "_score": ("likelihood_ratio_score",),
    "_spherical_family": ("one_hot_squared_error", "spherical_softmax_loss", "taylor_softmax_loss", "z_score_loss"),
    "_spherical_head": ("SphericalHead",),
    "_uniform": ("uniform_kl",),
    "_unnormalized": ("compositional_likelihood_loss",),
}

FILES: dict[str, str] = {name: file for file, names in NAMES.items() for name in names}


def load(name: str) -> Any:
    """The public object of that name, which is a key of FILES."""
    return getattr(import_module(f"{__package__}.{FILES[name]}"), name)
