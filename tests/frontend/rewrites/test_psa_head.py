"""PSANet's head for symbolic sizes against mmseg's own, for every parity of the sides."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from segc.frontend.mmseg_env import import_mmseg
from segc.frontend.rewrites.psa_head import bilinear, forward_of_either_parity
from segc.frontend.trace import trace
from segc.graph import ir
from tests.helpers.run_graph import run

SIZES = [(8, 10), (7, 9), (8, 9), (7, 10), (3, 5)]


class Headed(torch.nn.Module):
    """A map (N, 6, H, W) to the head's logits."""

    def __init__(self, head: torch.nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head([x])
        return logits


def psa_head(**options: Any) -> torch.nn.Module:
    import_mmseg()
    from mmseg.models.decode_heads import PSAHead

    torch.manual_seed(0)
    settings = {"mask_size": (5, 7), "align_corners": False, "norm_cfg": {"type": "BN"}, **options}
    head: torch.nn.Module = PSAHead(in_channels=6, in_index=0, channels=4, num_classes=3, **settings).eval()
    return head


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("psa_type", ["collect", "distribute", "bi-direction"])
def test_it_computes_what_mmseg_computes(psa_type: str, size: tuple[int, int]) -> None:
    head = psa_head(psa_type=psa_type)
    x = torch.randn(2, 6, *size)
    torch.testing.assert_close(forward_of_either_parity(head.forward)(head, [x]), head([x]))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("options", [{"shrink_factor": 1}, {"psa_softmax": False, "normalization_factor": None}])
def test_it_knows_the_heads_options(options: dict[str, Any], align_corners: bool) -> None:
    head = psa_head(align_corners=align_corners, **options)
    x = torch.randn(1, 6, 7, 9)
    torch.testing.assert_close(forward_of_either_parity(head.forward)(head, [x]), head([x]))


@pytest.mark.parametrize("psa_type", ["collect", "distribute", "bi-direction"])
def test_a_compact_mask_is_moved_as_mmseg_moves_it(psa_type: str) -> None:
    head = psa_head(psa_type=psa_type, compact=True, mask_size=(4, 5))
    x = torch.randn(2, 6, 8, 10)
    torch.testing.assert_close(forward_of_either_parity(head.forward)(head, [x]), head([x]))


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize(("old", "new"), [((5, 7), (9, 4)), ((1, 6), (5, 1)), ((4, 4), (4, 4)), ((3, 2), (1, 1))])
def test_the_products_resize_like_torch(old: tuple[int, int], new: tuple[int, int], aligned: bool) -> None:
    x = torch.randn(2, 3, *old)
    wanted = F.interpolate(x, new, mode="bilinear", align_corners=aligned)
    torch.testing.assert_close(bilinear(x, new, torch.tensor(aligned)), wanted)


def test_one_trace_is_right_at_every_parity() -> None:
    head = Headed(psa_head()).eval()
    traced = trace(head, (1, 6, 16, 16), opset=20, dynamic=True)
    assert "psa-head" in traced.rewrites
    graph = ir.from_model(traced.model)
    for size in SIZES[:4]:
        x = torch.randn(2 if size == SIZES[0] else 1, 6, *size)
        got = torch.from_numpy(run(graph, {"input": x.numpy()})[0])
        torch.testing.assert_close(got, head(x), rtol=1e-4, atol=1e-5)


def test_a_static_trace_keeps_mmsegs_resizes() -> None:
    traced = trace(Headed(psa_head()).eval(), (1, 6, 8, 10), opset=20)
    assert "psa-head" not in traced.rewrites
    assert sum(node.op_type == "Resize" for node in traced.model.graph.node) == 3
