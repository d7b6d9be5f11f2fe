"""Scales, zero points and codes by the formulas of ONNX Runtime's quantizer (quant_utils.py: compute_scale_zp, quantize_nparray),
written out in numpy float32/float64 as it computes them. Run: python3 test/reference/int8.py > test/reference/fixtures/int8.json"""
import json
import numpy as np

ranges = [(-1.5, 2.25), (0.0, 6.0), (0.1, 0.7), (-3.0, -0.5), (-1e9, 3.0), (-0.25, 0.25), (1e-40, 2e-40), (0.0, 0.0), (-127.3, 128.9)]


def scale_zp(rmin, rmax, qmin, qmax, symmetric):
    rmin, rmax = np.float32(min(rmin, 0)), np.float32(max(rmax, 0))
    if symmetric:
        absmax = np.maximum(np.abs(rmin), np.abs(rmax))
        rmin, rmax = -absmax, absmax
    dr = np.array(rmax - rmin, dtype=np.float64)
    dq = np.array(qmax - qmin, dtype=np.float64)
    scale = np.array(dr / dq)
    if scale < np.finfo(np.float32).tiny:
        return 1.0, 0
    zp = np.round((qmin + qmax) / 2.0) if symmetric else np.round(qmin - rmin / scale)
    return float(scale.astype(np.float32)), int(zp)


affine = [
    {"min": float(np.float32(a)), "max": float(np.float32(b)), "dtype": t, "symmetric": s, "result": scale_zp(a, b, *q, s)}
    for a, b in ranges
    for t, s, q in [("uint8", False, (0, 255)), ("uint8", True, (0, 255)), ("int8", False, (-128, 127)), ("int8", True, (-127, 127))]
]

rng = np.random.RandomState(7)
weights = []
for shape, axis in [((5, 3), 1), ((5, 3), 0), ((4, 2, 3, 3), 0), ((257, 1), 1), ((6, 4), None)]:
    w = (rng.randn(*shape) * rng.uniform(0.01, 3)).astype(np.float32)
    for low, high in [(-127, 127), (-64, 64)]:
        parts = [w] if axis is None else [np.take(w, i, axis) for i in range(shape[axis])]
        scales, codes = [], []
        for p in parts:
            s, _ = scale_zp(p.min(), p.max(), low, high, True)
            scales.append(s)
            codes.append(np.clip((p / np.float32(s)).round(), low, high).astype(np.int8))
        q = codes[0] if axis is None else np.stack(codes, axis)
        weights.append({"shape": shape, "axis": axis, "reduceRange": high == 64, "values": [float(x) for x in w.ravel()],
                        "scales": scales, "codes": [int(x) for x in q.ravel()]})

print(json.dumps({"affine": affine, "weights": weights}))
