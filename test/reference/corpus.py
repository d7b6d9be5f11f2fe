"""Makes test/reference/fixtures/corpus.gz: ONNX's own node and model tests (onnx 1.12) and exports of torch 1.13 at opsets 9 to 17, up to 12 kB each.

The file is gzip over records "name NUL length NUL bytes". Run with Debian's python3-onnx and python3-torch:
    /usr/bin/python3 test/reference/corpus.py
"""
import gzip, importlib, io, os, pkgutil, warnings

warnings.filterwarnings("ignore")
import numpy as np

for alias, t in [("bool", bool), ("object", object), ("int", int), ("float", float), ("complex", complex), ("str", str)]:
    if not hasattr(np, alias):
        setattr(np, alias, t)
import onnx.backend.test.case.base as base


def build(cls, name, bases, dct):
    """Like the original, but an exporter that a newer numpy breaks is left out."""
    for k in dct:
        if k.startswith("export"):
            np.random.seed(0)
            try:
                getattr(cls, k)()
            except Exception as e:
                print("left out:", name, k, e)
    type.__init__(cls, name, bases, dct)


base._Exporter.__init__ = build
import onnx.backend.test.case.model as models
import onnx.backend.test.case.node as nodes


def import_all(package):
    for _, m, is_package in pkgutil.iter_modules(package.__path__):
        try:
            module = importlib.import_module(package.__name__ + "." + m)
            if is_package:
                import_all(module)
        except Exception as e:
            print("left out:", m, e)


import_all(nodes)
import_all(models)
found = {}
for case in nodes._NodeTestCases + models._SimpleModelTestCases:
    if case.model is not None:
        found["onnx/" + case.name] = case.model.SerializeToString()

import torch
import torch.nn as nn

torch.manual_seed(0)


class Cond(nn.Module):
    def forward(self, x):
        if bool(x.sum() > 0):
            return x * 2
        else:
            return x - 1


class Loop(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 4))

    def forward(self, x, n: int):
        for i in range(n):
            if bool(x.sum() > 0):
                x = torch.tanh(x @ self.w)
            else:
                x = x + i
        return x


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.out = nn.Linear(8, 10, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, i):
        return self.out(self.embed(i))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 6, 2, bidirectional=True)
        self.gru = nn.GRU(12, 3)

    def forward(self, x):
        return self.gru(self.lstm(x)[0])[0]


class Shapes(nn.Module):
    def forward(self, x):
        up = nn.functional.interpolate(x[None, None], scale_factor=2, mode="bilinear", align_corners=False)
        return torch.topk(x, 2)[0], torch.nonzero(x > 0), x.new_zeros(x.shape[0], 3), up


zoo = {
    "mlp": (nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3)), (torch.randn(2, 6),)),
    "cnn": (
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, groups=8), nn.GELU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
        ),
        (torch.randn(1, 3, 16, 16),),
    ),
    "recurrent": (Recurrent(), (torch.randn(5, 1, 4),)),
    "transformer": (nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1), (torch.randn(1, 5, 8),)),
    "tied": (Tied(), (torch.randint(0, 10, (2, 3)),)),
    "cond": (torch.jit.script(Cond()), (torch.randn(4),)),
    "loop": (torch.jit.script(Loop()), (torch.randn(2, 4), 3)),
    "shapes": (Shapes(), (torch.randn(4, 5),)),
    "upsample": (nn.Sequential(nn.ConvTranspose2d(3, 4, 3, 2), nn.InstanceNorm2d(4), nn.LeakyReLU(), nn.Upsample(scale_factor=2)), (torch.randn(1, 3, 5, 5),)),
}
for name, (module, args) in zoo.items():
    for opset in range(7, 18):
        for fold in (True, False):
            out = io.BytesIO()
            try:
                torch.onnx.export(module.eval(), args, out, opset_version=opset, do_constant_folding=fold, keep_initializers_as_inputs=not fold)
            except Exception as e:
                print("left out:", name, opset, str(e).split("\n")[0][:80])
                continue
            found[f"torch/{name}/{opset}{'' if fold else '/inputs'}"] = out.getvalue()

out = io.BytesIO()
module, args = zoo["transformer"]
torch.onnx.export(module, args, out, opset_version=15, export_modules_as_functions={nn.LayerNorm, nn.Linear, nn.TransformerEncoderLayer})
found["torch/functions"] = out.getvalue()

kept = {k: v for k, v in sorted(found.items()) if len(v) <= 12288}
data = b"".join(k.encode() + b"\0" + str(len(v)).encode() + b"\0" + v for k, v in kept.items())
path = os.path.join(os.path.dirname(__file__), "fixtures/corpus.gz")
os.makedirs(os.path.dirname(path), exist_ok=True)
open(path, "wb").write(gzip.compress(data, 9, mtime=0))
print(len(kept), "models,", len(data), "bytes,", os.path.getsize(path), "packed")
