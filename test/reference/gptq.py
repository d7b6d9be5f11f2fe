"""GPTQ as its authors wrote it down (Frantar et al. 2022, algorithm 1), in numpy float64: the inverse of the damped Hessian, its upper
Cholesky factor, columns in turn with the error spread over those that follow; grids from a group's weights as they are when it is reached,
or found beforehand where columns are taken in the order of their Hessian's diagonal.
Run: python3 test/reference/gptq.py > test/reference/fixtures/gptq.json"""
import json
import numpy as np
from blocks import block_grid, nearest


def gptq(w, h, bits, symmetric, size, order, damp=0.01):
    rows, n = w.shape
    w0, w, h = w, w.astype(np.float64).copy(), h.copy()
    h[np.diag_indices(n)] += damp * np.mean(np.diag(h))
    perm = np.argsort(-np.diag(h), kind="stable") if order == "activation" else np.arange(n)
    u = np.linalg.cholesky(np.linalg.inv(h[perm][:, perm])).T
    groups = -(-n // size)
    grids = [[None] * groups for _ in range(rows)]
    if order == "activation":
        for r in range(rows):
            for g in range(groups):
                grids[r][g] = block_grid(w0[r, g * size : (g + 1) * size], bits, symmetric)
    codes = np.zeros((rows, n), int)
    w = w[:, perm]
    for k in range(n):
        j = perm[k]
        g = j // size
        if order == "given" and j % size == 0:
            for r in range(rows):
                grids[r][g] = block_grid(w[r, k : k + size].astype(np.float32), bits, symmetric)
        for r in range(rows):
            scale, zp = grids[r][g]
            q = nearest(np.float32(w[r, k]), scale, zp, bits)
            codes[r, j] = q
            e = (w[r, k] - (q - zp) * np.float64(scale)) / u[k, k]
            w[r, k + 1 :] -= e * u[k, k + 1 :]
    flat = [x for row in grids for x in row]
    return {"codes": codes.ravel().tolist(), "scales": [float(s) for s, _ in flat], "zeroPoints": [int(z) for _, z in flat]}


if __name__ == "__main__":
    rng = np.random.RandomState(5)
    rows, n = 6, 80
    x = rng.randn(200, n) @ (np.eye(n) + 0.5 * rng.randn(n, n) / np.sqrt(n)) * rng.uniform(0.2, 3, n)
    w = (rng.randn(rows, n) * 0.1).astype(np.float32)
    h = x.T @ x
    runs = []
    for bits, symmetric, size, order in [(4, True, 16, "given"), (4, False, 16, "given"), (3, True, 32, "given"), (2, False, 80, "given"), (4, True, 16, "activation"), (3, False, 32, "activation")]:
        runs.append({"bits": bits, "symmetric": symmetric, "groupSize": size, "order": order, **gptq(w, h, bits, symmetric, size, order)})
    print(json.dumps({"rows": rows, "columns": n, "weights": [float(v) for v in w.ravel()], "hessian": [float(f"{v:.17g}") for v in h.ravel()], "runs": runs}))
