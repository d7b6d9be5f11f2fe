"""Gradients of convolution and pooling, and eight steps of a small residual net, in PyTorch, for test/windows.test.ts.
Run: /usr/bin/python3 test/reference/windows.py > test/reference/fixtures/windows.json"""
import json

import numpy as np
import torch
import torch.nn.functional as F


def made(seed, *shape):
    """The same numbers as `made` in test/windows.test.ts."""
    i = np.arange(int(np.prod(shape)), dtype=np.int64)
    return torch.tensor((((i * i * 31 + i * 7919 + seed * 104729) % 10007) / 10007 - 0.5).astype("float32").reshape(shape)).double()


def sample(t):
    """At most 256 elements, evenly taken."""
    flat = t.detach().flatten()
    return [float(f"{v:.9g}") for v in flat[:: max(1, -(-flat.numel() // 256))].tolist()]


def gradients(f, *shapes):
    xs = [made(k + 1, *s).requires_grad_() for k, s in enumerate(shapes)]
    y = f(*xs)
    y.backward(made(9, *y.shape))
    return {"output": list(y.shape), "gradients": [sample(x.grad) for x in xs]}


conv = lambda **k: lambda x, w, b: F.conv2d(x, w, b, **k)
ops = {
    "same": gradients(conv(padding=1), (16, 16, 16, 16), (24, 16, 3, 3), (24,)),
    "valid 5x5": gradients(conv(), (16, 8, 12, 12), (20, 8, 5, 5), (20,)),
    "stride 2, odd": gradients(conv(stride=2, padding=1), (8, 16, 15, 17), (32, 16, 3, 3), (32,)),
    "1x1, stride 2": gradients(conv(stride=2), (8, 16, 16, 16), (32, 16, 1, 1), (32,)),
    "groups, dilation": gradients(conv(groups=4, dilation=2, padding=(3, 1)), (8, 16, 14, 13), (24, 4, 3, 3), (24,)),
    "depthwise": gradients(conv(groups=32, padding=1), (8, 32, 14, 14), (32, 1, 3, 3), (32,)),
    "one example": gradients(conv(padding=1), (1, 16, 28, 28), (16, 16, 3, 3), (16,)),
    "transposed": gradients(
        lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2, padding=1, output_padding=1, groups=2), (8, 16, 7, 9), (16, 6, 3, 3), (12,)
    ),
    "max pool": gradients(lambda x: F.max_pool2d(x, 2), (8, 8, 12, 13)),
    "max pool, overlap": gradients(lambda x: F.max_pool2d(x, 3, 2, 1), (8, 8, 15, 14)),
    "average pool, overlap": gradients(lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), (8, 8, 15, 14)),
    "bilinear": gradients(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), (4, 8, 9, 7)),
}

# ResNet-20's form with one block a stage; names as pith's own net has them.
width, size, n = 8, 16, 8
weights, running, order = {}, {}, []


def weight(name, *shape):
    w = made(len(order) + 20, *shape)
    w = w * (6 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else (1 + w if name.endswith(".bn.weight") else w)
    weights[name] = w.float().requires_grad_()
    order.append(name)
    return weights[name]


def normalized(name, x, c, k, s):
    w, g, b = (weights[f"{name}.{p}"] for p in ("conv.weight", "bn.weight", "bn.bias"))
    mean, var = running[name]
    return F.batch_norm(F.conv2d(x, w, None, s, k // 2), mean, var, g, b, True, 0.1, 1e-5)


layers = [("stem", 3, 8, 3)]
c = width
for stage in (1, 2, 3):
    out = width * 2 ** (stage - 1)
    name = f"stage{stage}.block1"
    if out != c:
        layers.append((f"{name}.short", c, out, 1))
    layers += [(f"{name}.1", c, out, 3), (f"{name}.2", out, out, 3)]
    c = out
for name, i, o, k in layers:
    weight(f"{name}.conv.weight", o, i, k, k)
    weight(f"{name}.bn.weight", o)
    weight(f"{name}.bn.bias", o)
    running[name] = (torch.zeros(o), torch.ones(o))
weight("fc.weight", 10, c)
weight("fc.bias", 10)


def net(x):
    x = F.relu(normalized("stem", x, (3, width), 3, 1))
    for stage in (1, 2, 3):
        name, s = f"stage{stage}.block1", 1 if stage == 1 else 2
        short = x if s == 1 else normalized(f"{name}.short", x, None, 1, s)
        y = F.relu(normalized(f"{name}.1", x, None, 3, s))
        x = F.relu(normalized(f"{name}.2", y, None, 3, 1) + short)
    return F.linear(x.mean((2, 3)), weights["fc.weight"], weights["fc.bias"])


x, labels = made(7, n, 3, size, size).float() * 4, torch.arange(n) % 10
optimizer = torch.optim.SGD(weights.values(), lr=0.05, momentum=0.9)
losses = []
for _ in range(8):
    optimizer.zero_grad()
    loss = F.cross_entropy(net(x), labels)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
ends = {k: sample(w.double()) for k, w in weights.items() if k in ("stem.conv.weight", "stage2.block1.short.conv.weight", "stage3.block1.2.bn.weight")}
print(json.dumps({"ops": ops, "net": {"order": order, "losses": losses, "ends": ends, "mean": sample(running["stage2.block1.1"][0])}}, separators=(",", ":")))
