"""Ten full-batch steps of an MLP in PyTorch, for src/train/fit.test.ts. Run: /usr/bin/python3 test/reference/training.py"""
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
}
text = json.dumps(out)
pathlib.Path(__file__).with_name("fixtures").joinpath("training.json").write_text(text + "\n")
