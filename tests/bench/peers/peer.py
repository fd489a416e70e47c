"""What peers of all sweeps share."""


class Refused(Exception):
    """Why a peer is not shown."""


def needs_gpu(device):
    if device.type != "cuda":
        raise Refused("its kernels need a GPU")


class RoutedInputs:
    """Inputs x [T, D], gradients dout, experts ids [T, K] and their gates of one shape."""

    def __init__(self, torch, shape, device, dtype):
        self.generator = torch.Generator(device=device).manual_seed(1)
        self.torch, self.device, self.dtype = torch, device, dtype
        tokens = shape["tokens"]
        self.x = self.normal(tokens, shape["d_model"]).requires_grad_()
        self.dout = self.normal(tokens, shape["d_model"])
        self.ids = chosen_experts(torch, shape, self.generator)
        gates = torch.rand(tokens, shape["top_k"], generator=self.generator, device=device)
        self.gates = (gates / gates.sum(1, keepdim=True)).to(dtype).requires_grad_()

    def normal(self, *size):
        values = self.torch.randn(*size, generator=self.generator, device=self.device)
        return values.to(self.dtype)


def chosen_experts(torch, shape, generator):
    """Experts [T, K]: equal loads, or the first expert with `imbalance` times the mean."""
    tokens, experts, top_k = shape["tokens"], shape["experts"], shape["top_k"]
    device = generator.device
    if shape["imbalance"] <= 1:
        order = torch.randperm(tokens, generator=generator, device=device)
        return (order[:, None] * top_k + torch.arange(top_k, device=device)) % experts
    scores = torch.rand(tokens, experts, generator=generator, device=device)
    scores[:, 0] = -1.0
    scores[: round(shape["imbalance"] * tokens * top_k / experts), 0] = 2.0
    return scores.topk(top_k).indices
