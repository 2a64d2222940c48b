"""The names that options are checked against: hook points and number formats. Imports nothing, so
that a wrong option is refused before PyTorch is loaded.
"""

from __future__ import annotations

HOOK_PRE, HOOK_POST, HOOK_BEFORE_LN = "mlp.hook_pre", "mlp.hook_post", "mlp.ln.hook_in"
MLP_HOOK_POINTS = (HOOK_PRE, HOOK_POST, HOOK_BEFORE_LN)
"""Of MLP neurons: before the activation function (in gated MLPs the gate alone), after it, and
after SoLU but before the LayerNorm that follows it."""

HOOK_PATTERN = "attn.hook_pattern"
"""Of attention heads: where each head of a layer looks from each position."""

HOOK_POINTS = MLP_HOOK_POINTS
"""Every hook point a user may ask for, of all kinds of unit."""

DTYPES = ("float32", "bfloat16", "float16")
