"""Training speed and peak memory in PyTorch, the counterpart of bench/training.ts (pith itself never needs it).
Run: /usr/bin/python3 test/reference/training_speed.py [--threads 2] [--rounds 3] [net ...]; PyTorch should use an OpenMP BLAS."""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

TUNABLES = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4000000000:glibc.malloc.trim_threshold=8000000000"
NETS = ["lenet-300-100", "lenet-5", "transformer", "resnet-20"]
parser = argparse.ArgumentParser()
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--child", action="store_true")
parser.add_argument("nets", nargs="*", default=NETS)
args = parser.parse_args()


def child(name):
    import torch
    from torch import nn

    torch.set_num_threads(args.threads)
    torch.manual_seed(1)

    class Block(nn.Module):
        def __init__(self, i, o, stride):
            super().__init__()
            conv = lambda a, b, k, s: nn.Sequential(nn.Conv2d(a, b, k, s, k // 2, bias=False), nn.BatchNorm2d(b))
            self.a, self.b = conv(i, o, 3, stride), conv(o, o, 3, 1)
            self.short = conv(i, o, 1, stride) if i != o else nn.Identity()

        def forward(self, x):
            return torch.relu(self.b(torch.relu(self.a(x))) + self.short(x))

    class Encoder(nn.Module):
        def __init__(self, d=256):
            super().__init__()
            self.embed, self.position = nn.Embedding(1000, d), nn.Parameter(torch.randn(64, d) * 0.02)
            layer = nn.TransformerEncoderLayer(d, 4, 4 * d, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
            self.layers, self.norm, self.head = nn.TransformerEncoder(layer, 4), nn.LayerNorm(d), nn.Linear(d, 10)

        def forward(self, x):
            return self.head(self.norm(self.layers(self.embed(x) + self.position)).mean(1))

    def resnet():
        parts, c = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()], 16
        for stage in range(3):
            for _ in range(3):
                parts.append(Block(c, 16 << stage, 1 if c == 16 << stage else 2))
                c = 16 << stage
        return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 10))

    make, batch, shape, steps = {
        "lenet-300-100": (
            lambda: nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)),
            128, (784,), 1500),
        "lenet-5": (
            lambda: nn.Sequential(nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten(),
                                  nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)),
            64, (1, 28, 28), 300),
        "transformer": (Encoder, 16, (64,), 50),
        "resnet-20": (resnet, 32, (3, 32, 32), 60),
    }[name]
    n = 8 * batch
    x = torch.randint(0, 1000, (n, *shape)) if name == "transformer" else torch.randn(n, *shape)
    labels = torch.randint(0, 10, (n,))
    net = make().train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    times = []
    last = time.perf_counter()
    order = torch.randperm(n)
    for step in range(steps):
        at = order[(step * batch) % n : (step * batch) % n + batch]
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(net(x[at]), labels[at])
        loss.backward()
        optimizer.step()
        loss.item()
        now = time.perf_counter()
        times.append(now - last)
        last = now
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"ms": 1000 * statistics.median(times[steps // 10 :]), "peakMB": peak}))


if args.child:
    child(args.nets[0])
else:
    for name in args.nets:
        command = [sys.executable, __file__, "--child", "--threads", str(args.threads), name]
        runs = [json.loads(subprocess.check_output(command, env={**os.environ, "GLIBC_TUNABLES": TUNABLES})) for _ in range(args.rounds)]
        ms, peak = (statistics.median(r[k] for r in runs) for k in ("ms", "peakMB"))
        print(f"{name:14} {ms:8.2f} ms/step  peak {peak:.0f} MB", flush=True)
