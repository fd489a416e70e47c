"""The experts of one layer by other implementations.

A builder(torch, shape, device, dtype) returns a function of x, gates and ids, its weights, and a function
that sets them from smoe's: w1 [E, 2F, D], of which the first F rows are under SiLU, and w2 [E, D, F].
"""

from peer import Refused, RoutedInputs, needs_gpu

CHECKED_TOKENS = 64
SWEEPS = ("layer", "granularity", "sparsity", "batch", "imbalance", "inference")


class Inputs(RoutedInputs):
    """What every peer computes with, at one shape."""

    def __init__(self, torch, shape, device, dtype):
        super().__init__(torch, shape, device, dtype)
        width, experts, d_model = shape["d_expert"], shape["experts"], shape["d_model"]
        self.w1 = self.normal(experts, 2 * width, d_model) * d_model**-0.5
        self.w2 = self.normal(experts, d_model, width) * width**-0.5
        self.weights = (self.w1, self.w2)

    def reference(self):
        """The layer's output for the first tokens, in f64."""
        count = min(CHECKED_TOKENS, self.x.shape[0])
        with self.torch.no_grad():
            x, gates = self.x[:count].double(), self.gates[:count].double()
            out = self.torch.zeros_like(x)
            for slot in range(self.ids.shape[1]):
                for t in range(count):
                    e = self.ids[t, slot]
                    gated, linear = (self.w1[e].double() @ x[t]).chunk(2)
                    hidden = self.torch.nn.functional.silu(gated) * linear
                    out[t] += gates[t, slot] * (self.w2[e].double() @ hidden)
        return out


def forward_flops(shape):
    return 6.0 * shape["tokens"] * shape["top_k"] * shape["d_model"] * shape["d_expert"]


def build_scattermoe(torch, shape, device, dtype):
    needs_gpu(device)
    from scattermoe.mlp import GLUMLP

    layer = GLUMLP(shape["d_model"], shape["d_expert"], shape["experts"], shape["top_k"]).to(device, dtype)
    up, down = layer.experts.weight, layer.output_experts.weight

    def set_weights(w1, w2):
        linear, gated = w1.chunk(2, dim=1)[::-1]  # SiLU is on its second half
        up.copy_(torch.cat([linear, gated], dim=1))
        down.copy_(w2)

    return layer, [up, down], set_weights


def build_grouped_mm(torch, shape, device, dtype):
    functional = torch.nn.functional
    grouped_mm = getattr(functional, "grouped_mm", None) or getattr(torch, "_grouped_mm", None)
    if grouped_mm is None:
        raise Refused(f"PyTorch {torch.__version__} has no grouped_mm")
    experts, top_k, width = shape["experts"], shape["top_k"], shape["d_expert"]
    w1 = torch.empty(experts, 2 * width, shape["d_model"], device=device, dtype=dtype, requires_grad=True)
    w2 = torch.empty(experts, shape["d_model"], width, device=device, dtype=dtype, requires_grad=True)

    def layer(x, gates, ids):
        flat = ids.flatten()
        order = flat.argsort(stable=True)
        ends = torch.bincount(flat, minlength=experts).cumsum(0).to(torch.int32)
        tokens = order // top_k
        hidden = grouped_mm(x[tokens], w1.transpose(1, 2), offs=ends)
        gated, linear = hidden.chunk(2, dim=1)
        rows = grouped_mm(functional.silu(gated) * linear, w2.transpose(1, 2), offs=ends)
        rows = rows * gates.flatten()[order].to(rows.dtype)[:, None]
        return torch.zeros_like(x).index_add_(0, tokens, rows)

    def set_weights(new_w1, new_w2):
        w1.copy_(new_w1)
        w2.copy_(new_w2)

    return layer, [w1, w2], set_weights


def build_megablocks(torch, shape, device, dtype):
    needs_gpu(device)
    from megablocks.layers.arguments import Arguments
    from megablocks.layers.dmoe import ParallelDroplessMLP

    arguments = Arguments(
        hidden_size=shape["d_model"],
        ffn_hidden_size=shape["d_expert"],
        moe_num_experts=shape["experts"],
        moe_top_k=shape["top_k"],
        mlp_type="glu",
        activation_fn=torch.nn.functional.silu,
        bias=False,
        fp16=False,
        bf16=dtype == torch.bfloat16,
        device=device,
    )
    mlp = ParallelDroplessMLP(arguments).to(device, dtype)

    def layer(x, gates, ids):
        scores = torch.zeros(x.shape[0], shape["experts"], device=device, dtype=dtype)
        out = mlp(x[:, None], scores, gates.to(dtype), ids)
        return (out[0] if isinstance(out, tuple) else out)[:, 0]

    def set_weights(w1, w2):
        gated, linear = w1.chunk(2, dim=1)
        mlp.mlp.w1.copy_(gated.reshape_as(mlp.mlp.w1))
        mlp.mlp.v1.copy_(linear.reshape_as(mlp.mlp.v1))
        mlp.mlp.w2.copy_(w2.transpose(1, 2).reshape_as(mlp.mlp.w2))

    return layer, [mlp.mlp.w1, mlp.mlp.v1, mlp.mlp.w2], set_weights


def build_sonicmoe(torch, shape, device, dtype):
    if device.type != "cuda" or torch.cuda.get_device_capability(device)[0] < 9:
        raise Refused("its kernels need a GPU of compute capability 9.0 or more")
    from sonicmoe.enums import ActivationType
    from sonicmoe.functional import _DownProjection, _UpProjection, TC_topk_router_metadata_triton

    experts, top_k, width = shape["experts"], shape["top_k"], shape["d_expert"]
    w1 = torch.empty(experts, 2 * width, shape["d_model"], device=device, dtype=dtype, requires_grad=True)
    w2 = torch.empty(experts, shape["d_model"], width, device=device, dtype=dtype, requires_grad=True)

    def layer(x, gates, ids):
        tokens = x.shape[0]
        rows = tokens * top_k

        def indices(count):
            return torch.empty(count, dtype=torch.int32, device=device)

        scatter, reverse, gather = indices(rows), indices(rows), indices(rows)
        counts, offsets = indices(experts), indices(experts + 1)
        TC_topk_router_metadata_triton(ids.int(), experts, counts, offsets, gather, scatter, reverse)
        act, is_inference = ActivationType.SWIGLU, not torch.is_grad_enabled()
        hidden, kept = _UpProjection.apply(
            x, w1.permute(1, 2, 0), None, offsets, rows, top_k, gather, scatter, reverse, None, False, act,
            is_inference, False)
        return _DownProjection.apply(
            hidden, kept, w2.permute(1, 2, 0), None, gates.float(), offsets, tokens, top_k, gather, scatter,
            reverse, None, False, act)

    def set_weights(new_w1, new_w2):
        # Its GLU and linear rows alternate.
        gated, linear = new_w1.chunk(2, dim=1)
        w1.copy_(torch.stack([gated, linear], dim=2).reshape_as(w1))
        w2.copy_(new_w2)

    return layer, [w1, w2], set_weights


PEERS = {
    "scattermoe": build_scattermoe,
    "grouped_mm": build_grouped_mm,
    "megablocks": build_megablocks,
    "sonicmoe": build_sonicmoe,
}
