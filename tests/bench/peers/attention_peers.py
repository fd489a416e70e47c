"""A mixture of attention by other implementations.

A builder(torch, shape, device, dtype) returns a function of x, gates and ids, its weights, and a function
that sets them from smoe's: query [E, F, D], output [E, D, F] and those of keys and values [2 H C, D]. A
token has H = heads / K query heads of each of its K experts; head i of all of them reads key head i.
"""

from peer import RoutedInputs, needs_gpu

CHECKED_TOKENS = 64
SWEEPS = ("attention",)


class Inputs(RoutedInputs):
    """What every peer computes with, at one shape."""

    def __init__(self, torch, shape, device, dtype):
        super().__init__(torch, shape, device, dtype)
        width, experts, d_model = shape["d_expert"], shape["experts"], shape["d_model"]
        self.seq_len = shape["tokens"] // shape["sequences"]
        self.num_kv_heads = shape["heads"] // shape["top_k"]
        self.query = self.normal(experts, width, d_model) * d_model**-0.5
        self.output = self.normal(experts, d_model, width) * width**-0.5
        self.kv = self.normal(2 * width, d_model) * d_model**-0.5
        self.weights = (self.query, self.output, self.kv)

    def reference(self):
        """The output for the first tokens of the first sequence, in f64."""
        torch, count = self.torch, min(CHECKED_TOKENS, self.seq_len)
        with torch.no_grad():
            x = self.x[:count].double()
            keys, values = (x @ self.kv.double().T).view(count, 2, self.num_kv_heads, -1).unbind(1)
            out = torch.zeros_like(x)
            for slot in range(self.ids.shape[1]):
                for t in range(count):
                    e = self.ids[t, slot]
                    q = (self.query[e].double() @ x[t]).view(self.num_kv_heads, -1)
                    scores = torch.einsum("hc,thc->ht", q, keys[: t + 1]) * q.shape[1] ** -0.5
                    attended = torch.einsum("ht,thc->hc", scores.softmax(1), values[: t + 1])
                    out[t] += self.gates[t, slot].double() * (self.output[e].double() @ attended.flatten())
        return out


def forward_flops(shape):
    """Projections by expert, those of keys and values, and the scores of causal attention."""
    tokens, d_model, width, top_k = (shape[name] for name in ("tokens", "d_model", "d_expert", "top_k"))
    projections = 4.0 * tokens * (top_k + 1) * d_model * width
    return projections + 2.0 * tokens * (tokens // shape["sequences"]) * width * top_k


def build_scattermoe(torch, shape, device, dtype):
    needs_gpu(device)
    from scattermoe.parallel_experts import ParallelExperts, flatten_sort_count

    experts, top_k, width, d_model = (shape[name] for name in ("experts", "top_k", "d_expert", "d_model"))
    sequences, num_kv_heads = shape["sequences"], shape["heads"] // top_k
    query = ParallelExperts(experts, d_model, width).to(device, dtype)
    output = ParallelExperts(experts, width, d_model).to(device, dtype)
    kv = torch.empty(2 * width, d_model, device=device, dtype=dtype, requires_grad=True)

    def mixture(x, gates, ids):
        order = flatten_sort_count(ids, num_experts=experts)
        q = query(x, top_k, *order).view(sequences, -1, shape["heads"], width // num_kv_heads)
        keys, values = (x @ kv.T).view(sequences, -1, 2, num_kv_heads, width // num_kv_heads).unbind(2)
        attended = torch.nn.functional.scaled_dot_product_attention(
            q.transpose(1, 2),
            keys.repeat(1, 1, top_k, 1).transpose(1, 2),
            values.repeat(1, 1, top_k, 1).transpose(1, 2),
            is_causal=True,
        )
        rows = attended.transpose(1, 2).reshape(-1, width)
        return output(rows, 1, *order, gates=gates)

    def set_weights(new_query, new_output, new_kv):
        query.weight.copy_(new_query)
        output.weight.copy_(new_output)
        kv.copy_(new_kv)

    return torch.compile(mixture), [query.weight, output.weight, kv], set_weights


PEERS = {"scattermoe": build_scattermoe}
