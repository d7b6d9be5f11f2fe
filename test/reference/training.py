"""Ten full-batch steps in PyTorch of an MLP, a small residual CNN with BatchNormalization and a transformer, for test/training.test.ts.
Run: /usr/bin/python3 test/reference/training.py"""
import json
import pathlib

import torch
import torch.nn.functional as F

torch.manual_seed(0)
n, sizes = 16, [6, 8, 5]
x = torch.randn(n, sizes[0])
labels = torch.randint(0, sizes[-1], (n,))
partly = labels.clone()
partly[::3] = -100
target = torch.randn(n, sizes[-1])
teacher = 3 * torch.randn(n, sizes[-1])
soft = torch.softmax(teacher, 1)
initial = [(torch.randn(o, i) / i**0.5, 0.1 * torch.randn(o)) for i, o in zip(sizes, sizes[1:])]


def distillation(y):
    t = 4.0
    kl = F.kl_div(F.log_softmax(y / t, 1), F.softmax(teacher / t, 1), reduction="batchmean") * t * t
    return 0.1 * F.cross_entropy(y, labels) + 0.9 * kl


cases = {
    "adam, cross-entropy": (lambda p: torch.optim.Adam(p, lr=0.01), lambda y: F.cross_entropy(y, labels), None),
    "adam with L2, clipped": (lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1), lambda y: F.cross_entropy(y, labels), 0.1),
    "adamw, smoothed and ignored labels": (
        lambda p: torch.optim.AdamW(p, lr=0.02, betas=(0.8, 0.95), weight_decay=0.2),
        lambda y: F.cross_entropy(y, partly, label_smoothing=0.1),
        None,
    ),
    "adam, probabilities": (lambda p: torch.optim.Adam(p, lr=0.01), lambda y: F.cross_entropy(y, soft), None),
    "sgd, mean squared error": (lambda p: torch.optim.SGD(p, lr=0.1), lambda y: F.mse_loss(y, target), None),
    "sgd with momentum": (lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9), lambda y: F.mse_loss(y, target), None),
    "nesterov with L2": (
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.05),
        lambda y: F.mse_loss(y, target),
        None,
    ),
    "adam, distillation": (lambda p: torch.optim.Adam(p, lr=0.01), distillation, None),
}
runs = {}
for name, (make, loss_of, clip) in cases.items():
    params = [p.clone().requires_grad_() for pair in initial for p in pair]
    optimizer = make(params)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = loss_of(F.linear(torch.relu(F.linear(x, *params[:2])), *params[2:]))
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(params, clip)
        optimizer.step()
        losses.append(loss.item())
    runs[name] = {"losses": losses, "weights": [p.detach().flatten().tolist() for p in params]}



def ten_steps(parameters, forward, labels):
    """Losses of ten Adam steps; `parameters` by the names of pith's nets."""
    optimizer = torch.optim.Adam(parameters.values(), lr=0.01)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = F.cross_entropy(forward(parameters), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def flat(named):
    return {name: {"shape": list(p.shape), "values": p.detach().flatten().tolist()} for name, p in named.items()}


def drawn(shapes):
    """Weights with few digits, so that the fixture is small."""
    out = {}
    for name, shape in shapes.items():
        fan = max(1, shape[-1] if len(shape) == 2 else int(torch.tensor(shape[1:]).prod()))
        p = torch.randn(shape) / fan**0.5 if len(shape) > 1 else torch.ones(shape) * ("norm" in name or "bn" in name) * ("weight" in name)
        out[name] = torch.round(p, decimals=3).requires_grad_()
    return out


# The residual CNN of src/nets/resnet20.ts with blocks 1, width 2, on 8x8 images of one channel.
shapes = {"stem.conv.weight": [2, 1, 3, 3]}
convs, c = [("stem", 2)], 2
for stage in (1, 2, 3):
    o, block = 2 << (stage - 1), f"stage{stage}.block1"
    if o != c:
        shapes[f"{block}.short.conv.weight"] = [o, c, 1, 1]
        convs.append((f"{block}.short", o))
    shapes[f"{block}.1.conv.weight"], shapes[f"{block}.2.conv.weight"] = [o, c, 3, 3], [o, o, 3, 3]
    convs += [(f"{block}.1", o), (f"{block}.2", o)]
    c = o
for name, o in convs:
    shapes[f"{name}.bn.weight"] = shapes[f"{name}.bn.bias"] = [o]
shapes["fc.weight"], shapes["fc.bias"] = [3, 8], [3]
images = torch.round(torch.randn(8, 1, 8, 8), decimals=2)
classes = torch.randint(0, 3, (8,))
running = {name: [torch.zeros(o), torch.ones(o)] for name, o in convs}


def normalized(p, name, x, stride, track=True):
    w = p[f"{name}.conv.weight"]
    x = F.conv2d(x, w, stride=stride, padding=w.shape[-1] // 2)
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)  # ONNX follows the biased variance, PyTorch the unbiased one
    for r, batch in zip(running[name], (mean, var)):
        r.mul_(0.9).add_(batch.detach(), alpha=0.1)
    y = (x - mean[:, None, None]) / torch.sqrt(var + 1e-5)[:, None, None]
    return y * p[f"{name}.bn.weight"][:, None, None] + p[f"{name}.bn.bias"][:, None, None]


def resnet(p):
    x, c = torch.relu(normalized(p, "stem", images, 1)), 2
    for stage in (1, 2, 3):
        o, block = 2 << (stage - 1), f"stage{stage}.block1"
        stride = 1 if o == c else 2
        short = x if o == c else normalized(p, f"{block}.short", x, stride)
        y = torch.relu(normalized(p, f"{block}.1", x, stride))
        x, c = torch.relu(normalized(p, f"{block}.2", y, 1) + short), o
    return F.linear(x.mean((2, 3)), p["fc.weight"], p["fc.bias"])


parameters = drawn(shapes)
cnn = {"images": images.flatten().tolist(), "classes": classes.tolist(), "initial": flat(parameters)}
cnn["losses"] = ten_steps(parameters, resnet, classes)
cnn["final"] = flat({k: parameters[k] for k in ("stem.conv.weight", "stage2.block1.short.bn.weight")})
cnn["running"] = {name: [r.tolist() for r in pair] for name, pair in running.items()}

# src/nets/transformer.ts: two layers, width 8, two heads, hidden 16, vocabulary 7, length 4.
d, heads, hidden = 8, 2, 16
shapes = {"embed.weight": [7, d], "positions.weight": [4, d]}
for i in (1, 2):
    for part in ("attention.q", "attention.k", "attention.v", "attention.out"):
        shapes[f"layer{i}.{part}.weight"], shapes[f"layer{i}.{part}.bias"] = [d, d], [d]
    shapes[f"layer{i}.fc1.weight"], shapes[f"layer{i}.fc1.bias"] = [d, hidden], [hidden]
    shapes[f"layer{i}.fc2.weight"], shapes[f"layer{i}.fc2.bias"] = [hidden, d], [d]
    for k in (1, 2):
        shapes[f"layer{i}.norm{k}.weight"] = shapes[f"layer{i}.norm{k}.bias"] = [d]
shapes |= {"norm.weight": [d], "norm.bias": [d], "head.weight": [d, 3], "head.bias": [3]}
ids = torch.randint(0, 7, (8, 4))


def encoder(p):
    def linear(name, x):
        return x @ p[f"{name}.weight"] + p[f"{name}.bias"]

    def norm(name, x):
        return F.layer_norm(x, (d,), p[f"{name}.weight"], p[f"{name}.bias"])

    def split(x):
        return x.reshape(8, 4, heads, d // heads).transpose(1, 2)

    x = p["embed.weight"][ids] + p["positions.weight"]
    for i in (1, 2):
        y = norm(f"layer{i}.norm1", x)
        q, k, v = (split(linear(f"layer{i}.attention.{part}", y)) for part in "qkv")
        a = torch.softmax(q @ k.transpose(2, 3) / (d // heads) ** 0.5, -1) @ v
        x = x + linear(f"layer{i}.attention.out", a.transpose(1, 2).reshape(8, 4, d))
        x = x + linear(f"layer{i}.fc2", F.gelu(linear(f"layer{i}.fc1", norm(f"layer{i}.norm2", x))))
    return linear("head", norm("norm", x).mean(1))


parameters = drawn(shapes)
text_net = {"ids": ids.flatten().tolist(), "classes": classes.tolist(), "initial": flat(parameters)}
text_net["losses"] = ten_steps(parameters, encoder, classes)
text_net["final"] = flat({k: parameters[k] for k in ("embed.weight", "layer1.attention.k.weight", "norm.bias")})

out = {
    "sizes": sizes,
    "x": x.flatten().tolist(),
    "labels": labels.tolist(),
    "partly": partly.tolist(),
    "target": target.flatten().tolist(),
    "teacher": teacher.flatten().tolist(),
    "soft": soft.flatten().tolist(),
    "initial": [p.flatten().tolist() for pair in initial for p in pair],
    "runs": runs,
    "cnn": cnn,
    "transformer": text_net,
}
text = json.dumps(out)
pathlib.Path(__file__).with_name("fixtures").joinpath("training.json").write_text(text + "\n")
