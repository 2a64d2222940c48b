"""The names that options are checked against: hook points and number formats. Imports nothing, so
that a wrong option is refused before PyTorch is loaded.
"""

from __future__ import annotations

HOOK_PRE, HOOK_POST, HOOK_BEFORE_LN = "mlp.hook_pre", "mlp.hook_post", "mlp.ln.hook_in"
HOOK_PRE_LINEAR = "mlp.hook_pre_linear"
MLP_HOOK_POINTS = (HOOK_PRE, HOOK_POST, HOOK_BEFORE_LN, HOOK_PRE_LINEAR)
"""Of MLP neurons: before the activation function (in gated MLPs the gate alone), after it, after
SoLU but before the LayerNorm that follows it, and the linear part of gated MLPs."""

HOOK_EMBED, HOOK_RESID_PRE, HOOK_ATTN_OUT = "hook_embed", "hook_resid_pre", "hook_attn_out"
HOOK_Q, HOOK_K, HOOK_V, HOOK_Z = "attn.hook_q", "attn.hook_k", "attn.hook_v", "attn.hook_z"
TENSOR_HOOK_POINTS = (
    *(HOOK_EMBED, HOOK_RESID_PRE, "hook_resid_mid", "hook_resid_post"),
    *(HOOK_ATTN_OUT, "hook_mlp_out", HOOK_Q, HOOK_K, HOOK_V, HOOK_Z),
)
"""Of the dimensions of a tensor: [batch, pos, d], or [batch, pos, head, d_head] flattened."""

HOOK_PATTERN = "attn.hook_pattern"
"""Of attention heads: where each head of a layer looks from each position."""

HOOK_POINTS = (*MLP_HOOK_POINTS, *TENSOR_HOOK_POINTS)
"""Every hook point a user may ask for, of all kinds of unit."""

DTYPES = ("float32", "bfloat16", "float16")


def tensor_set_name(hook_point: str) -> str:
    """The name in URLs of a tensor's dimensions: `resid_post` of `hook_resid_post`, `attn_z` of
    `attn.hook_z`."""
    return hook_point.replace("hook_", "").replace(".", "_")
