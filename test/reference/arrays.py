"""Fixtures of NumPy's file formats: fixtures/arrays.npz (stored), packed.npz (deflated), v2.npy, v3.npy, and arrays.json with what they hold.
Written with NumPy 1.24. Run: python3 test/reference/arrays.py"""
import json
from pathlib import Path
import numpy as np

here = Path(__file__).parent / "fixtures"
arrays = {}
for d in ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]:
    for order in "<>":
        x = (np.arange(24) % 2 if d == "b1" else np.arange(24) * 3 - (30 if d[0] in "if" else 0)).reshape(2, 3, 4)
        if d[0] == "f":
            x = x / 8
        x = x.astype(order + d)
        arrays[f"{d}{'le' if order == '<' else 'be'}"] = x
        arrays[f"{d}{'le' if order == '<' else 'be'}F"] = np.asfortranarray(x)
arrays["c16F"] = np.asfortranarray((np.arange(6) + 1j * np.arange(6)[::-1]).reshape(2, 3).astype(">c16"))
arrays["scalar"] = np.float32(1.5)
arrays["vector"] = np.arange(5, dtype="i8")
arrays["empty"] = np.zeros((0, 3), "f4")
arrays["wide"] = (np.arange(2000, dtype="f4").reshape(40, 50)).T
np.savez(here / "arrays.npz", **arrays)
np.savez_compressed(here / "packed.npz", **arrays)
for v in (2, 3):
    with open(here / f"v{v}.npy", "wb") as f:
        np.lib.format.write_array(f, np.arange(6, dtype="f4").reshape(2, 3), version=(v, 0))
kinds = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}
expected = {
    n: {
        "dtype": "bool" if a.dtype.kind == "b" else f"{kinds[a.dtype.kind]}{a.dtype.itemsize * 8}",
        "shape": list(a.shape),
        "values": (a.astype("<c16").ravel().view("<f8") if a.dtype.kind == "c" else a.ravel().astype("f8")).tolist(),
    }
    for n, a in arrays.items()
}
(here / "arrays.json").write_text(json.dumps(expected, separators=(",", ":")))
