"""Entropy calibration as TensorRT and ONNX Runtime compute it (calibrate.py: get_entropy_threshold, smooth_distribution),
on slices whose bins divide by the levels. Run: python3 test/reference/calibration.py > test/reference/fixtures/calibration.json"""
import json
import numpy as np


def smooth(p, eps=1e-4):
    zeros = (p == 0).astype(np.float64)
    nonzeros = (p != 0).astype(np.float64)
    if nonzeros.sum() == 0:
        return None
    eps1 = eps * zeros.sum() / nonzeros.sum()
    if eps1 >= 1:
        return None
    return p.astype(np.float64) + eps * zeros - eps1 * nonzeros


def divergence(hist, start, end, levels):
    part = hist[start:end].astype(np.float64)
    p = part.copy()
    p[0] += hist[:start].sum()
    p[-1] += hist[end:].sum()
    nonzeros = (p != 0).astype(np.int64)
    merged = part.size // levels
    assert merged * levels == part.size
    q = np.zeros(part.size)
    for i in range(levels):
        s = slice(i * merged, (i + 1) * merged)
        if nonzeros[s].sum():
            q[s] = part[s].sum() / nonzeros[s].sum()
    q[p == 0] = 0
    p, q = smooth(p), smooth(q)
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


rng = np.random.RandomState(11)
samples = {
    "normal": rng.randn(20000),
    "relu": np.maximum(rng.randn(20000), 0),
    "laplace": rng.laplace(size=20000),
    "outliers": np.concatenate([rng.randn(20000), rng.uniform(8, 20, 15)]),
    "swish": (lambda x: x / (1 + np.exp(-x)))(2 * rng.randn(20000)),
}


out = []
for name, x in samples.items():
    x = x.astype(np.float32)
    hist, edges = np.histogram(x, bins=1024)
    slices = [(0, 1024), (256, 768), (0, 512), (512, 1024), (128, 640), (100, 356)]
    out.append({
        "name": name, "counts": [int(c) for c in hist],
        "divergences": [{"from": a, "to": b, "levels": 128, "result": divergence(hist, a, b, 128)} for a, b in slices],
    })
print(json.dumps(out))
