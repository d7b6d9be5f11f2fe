"""Fixtures of dense linear algebra from NumPy (LAPACK, float64): fixtures/linalg.npz. Written with NumPy 1.24. Run: python3 test/reference/linalg.py"""
from pathlib import Path
import numpy as np

rng = np.random.default_rng(0)
hilbert = 1 / (np.arange(12)[:, None] + np.arange(12) + 1)
kahan = np.diag(0.8 ** np.arange(15)) @ (np.eye(15) - 0.6 * np.triu(np.ones((15, 15)), 1))
u, _ = np.linalg.qr(rng.normal(size=(40, 25)))
v, _ = np.linalg.qr(rng.normal(size=(25, 25)))
matrices = {
    "tall": rng.normal(size=(40, 17)),
    "wide": rng.normal(size=(13, 50)),
    "hilbert": hilbert,
    "kahan": kahan,
    "deficient": rng.normal(size=(30, 4)) @ rng.normal(size=(4, 21)),
    "clustered": u @ np.diag(np.r_[np.ones(12), np.full(12, 1e-3), 1e-9]) @ v.T,
    "graded": rng.normal(size=(20, 20)) * 10.0 ** np.linspace(0, -14, 20),
    "shift": np.eye(9, k=1),
    "float32": rng.normal(size=(33, 20)).astype("f4"),
}
out = {}
for name, a in matrices.items():
    out[f"svd.{name}.a"] = a
    out[f"svd.{name}.s"] = np.linalg.svd(a.astype("f8"), compute_uv=False)
    q, r = np.linalg.qr(a.astype("f8"))
    sign = np.where(np.diag(r) < 0, -1.0, 1.0)
    out[f"qr.{name}.r"] = r * sign[:, None]  # with a diagonal that is not negative, R is unique
for name, a in {"gram": matrices["tall"].T @ matrices["tall"], "indefinite": matrices["graded"] + matrices["graded"].T, "hilbert": hilbert, "repeated": v @ np.diag(np.repeat([3.0, -1, 0, 2, 7], 5)) @ v.T}.items():
    a = (a + a.T) / 2
    out[f"eigen.{name}.a"] = a
    out[f"eigen.{name}.values"] = np.linalg.eigvalsh(a)[::-1]
# The best approximation of rank 5 (Eckart, Young), and its relative error.
U, S, V = np.linalg.svd(matrices["tall"], full_matrices=False)
out["rank5.tall"] = (U[:, :5] * S[:5]) @ V[:5]
out["rank5.error"] = np.linalg.norm(matrices["tall"] - out["rank5.tall"]) / np.linalg.norm(matrices["tall"])
gram = out["eigen.gram.a"]
out["cholesky.l"] = np.linalg.cholesky(gram)
b = rng.normal(size=(17, 3))
general = rng.normal(size=(17, 17))
out["solve.a"], out["solve.b"], out["solve.x"] = general, b, np.linalg.solve(general, b)
np.savez_compressed(Path(__file__).parent / "fixtures" / "linalg.npz", **out)
