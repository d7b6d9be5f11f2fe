"""HQQ, AWQ, bias correction and k-means as their papers (and their authors' code) state them, in numpy on the inputs themselves rather than
on their second moment. Run: python3 test/reference/weight_algorithms.py > test/reference/fixtures/weight_algorithms.json"""
import json
import numpy as np
from blocks import block_grid, nearest


def shrink(x, beta, p):
    return np.sign(x) * np.maximum(np.abs(x) - np.abs(x) ** (p - 1) / beta, 0)


def hqq(w, bits, p=0.7, beta=10, kappa=1.01, iterations=20):
    """The zero point of one group: optimize_weights_proximal of HQQ, with its early stop, in float64."""
    most = 2**bits - 1
    scale, zero = block_grid(w, bits, False)
    scale, zero, w = np.float64(scale), np.float64(zero), w.astype(np.float64)
    best, least = zero, np.inf
    for _ in range(iterations):
        q = np.clip(np.floor(w / scale + zero + 0.5), 0, most)
        wr = (q - zero) * scale
        error = np.abs(w - wr).mean()
        if not error < least:
            break
        best, least = zero, error
        with np.errstate(divide="ignore"):
            we = shrink(w - wr, beta, p)
        zero = np.mean(q - (w - we) / scale)
        beta *= kappa
    return float(best), float(least)


def rtn(w, bits, symmetric, size):
    out = np.zeros_like(w, dtype=np.float64)
    for r in range(w.shape[0]):
        for at in range(0, w.shape[1], size):
            part = w[r, at : at + size]
            scale, zp = block_grid(part, bits, symmetric)
            out[r, at : at + size] = [np.float32((nearest(x, scale, zp, bits) - zp) * scale) for x in part]
    return out


def awq(w, x, bits, symmetric, size):
    mean = np.abs(x).mean(0)
    losses, scales = [], []
    for i in range(20):
        s = np.clip(mean ** (i / 20), 1e-4, None)
        s = (s / np.sqrt(s.max() * s.min())).astype(np.float32)
        q = rtn(w * s, bits, symmetric, size) / s
        losses.append(float((((q - w) @ x.T) ** 2).sum()))
        scales.append(s)
    return mean, losses, scales[int(np.argmin(losses))]


def lloyd(v, k, h, rounds):
    c = np.linspace(v.min(), v.max(), k)
    for _ in range(rounds):
        a = np.abs(v[:, None] - c).argmin(1)
        for j in range(k):
            if h[a == j].sum() > 0:
                c[j] = (h * v)[a == j].sum() / h[a == j].sum()
    return c


rng = np.random.RandomState(9)
out = {"hqq": [], "awq": [], "kmeans": []}
for bits in (2, 3, 4):
    for n in (32, 64):
        w = (rng.standard_t(3, n) * 0.2 + 0.03).astype(np.float32)
        zero, error = hqq(w, bits)
        out["hqq"].append({"bits": bits, "weights": [float(v) for v in w], "zero": zero, "error": error})
for bits, symmetric, size in [(4, True, 16), (3, False, 32)]:
    x = rng.randn(64, 48) * np.exp(rng.randn(48))
    w = (rng.randn(8, 48) * 0.1).astype(np.float32)
    mean, losses, scales = awq(w, x, bits, symmetric, size)
    out["awq"].append({"bits": bits, "symmetric": symmetric, "groupSize": size, "rows": 8, "columns": 48, "weights": [float(v) for v in w.ravel()],
                       "hessian": [float(v) for v in (x.T @ x).ravel()], "mean": [float(v) for v in mean], "losses": losses, "scales": [float(v) for v in scales]})
for k, weighted in [(4, False), (16, False), (16, True)]:
    v = (rng.randn(300) * 0.3).astype(np.float32)
    h = rng.uniform(0.1, 2, 300) if weighted else np.ones(300)
    out["kmeans"].append({"k": k, "values": [float(x) for x in v], "weights": [float(x) for x in h] if weighted else None, "centroids": [float(c) for c in lloyd(v.astype(np.float64), k, h, 100)]})
print(json.dumps(out))
