"""Fold frozen norms into the convolutions before them: one pass over the pixels less for each."""

from __future__ import annotations

from collections import Counter

from timm.layers.conv2d_same import Conv2dSame
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_norms(module: fx.GraphModule) -> int:
    """Fold every batch norm that directly follows a convolution into it, in place; how many were folded.

    Both must be called once, the norm be in eval mode, and nothing else use what the convolution gives. timm's norms
    that end in an activation keep it.
    """
    times = Counter(node.target for node in module.graph.nodes if node.op == "call_module")
    folded = 0
    for node in module.graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        conv_name, norm_name = str(before.target), str(node.target)
        conv, norm = module.get_submodule(conv_name), module.get_submodule(norm_name)
        if not isinstance(norm, nn.BatchNorm2d) or norm.training or times[conv_name] + times[norm_name] > 2:
            continue
        if not isinstance(conv, nn.Conv2d) or type(conv) not in (nn.Conv2d, Conv2dSame):  # others change their weight
            continue
        module.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
        rest = [child for child in norm.children() if not isinstance(child, nn.Identity)]
        module.set_submodule(norm_name, nn.Sequential(*rest) if rest else nn.Identity())
        folded += 1
    return folded
