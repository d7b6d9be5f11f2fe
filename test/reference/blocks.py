"""Block quantization of weights by the formulas of ONNX Runtime's quantizer for MatMulNBits (mlas/lib/q4_dq.cpp, BlockwiseQuantizer), in
numpy float32; 3 bits by the same formulas; 1 bit and ternary by those of XNOR-Net and of ternary weight networks.
Run: python3 test/reference/blocks.py > test/reference/fixtures/blocks.json"""
import json
import numpy as np

f = np.float32


def away(x):  # C's roundf
    return f(np.sign(x) * np.floor(np.abs(np.float64(x)) + 0.5))


def block_grid(w, bits, symmetric):
    mid, most = 2 ** (bits - 1), 2**bits - 1
    lo, hi = w.min(), w.max()
    if symmetric:
        return f((hi if abs(hi) > abs(lo) else lo) / f(-mid)), mid
    lo, hi = min(lo, f(0)), max(hi, f(0))
    scale = f(f(hi - lo) / f(most))
    return scale, int(np.clip(away(f(0) - f(lo / scale)), 0, most)) if scale != 0 else 0


def nearest(x, scale, zp, bits):
    inverse = f(1) / scale if scale != 0 else f(0)
    return int(np.clip(away(f(f(x * inverse) + f(zp))), 0, 2**bits - 1))


def block(w, bits, symmetric):
    scale, zp = block_grid(w, bits, symmetric)
    return scale, zp, [nearest(x, scale, zp, bits) for x in w]


def binary(w):
    return f(np.abs(w.astype(np.float64)).mean()), 1, [2 if x >= 0 else 0 for x in w]


def ternary(w):
    a = np.abs(w.astype(np.float64))
    delta = 0.7 * a.sum() / len(a)
    above = a[a > delta]
    return f(above.mean() if len(above) else 0), 2, [int(2 + np.sign(x) * (abs(np.float64(x)) > delta)) for x in w]


if __name__ == "__main__":
    rng = np.random.RandomState(11)
    cases = []
    for rows, columns, size in [(3, 64, 32), (2, 77, 16), (4, 20, 128)]:
        w = (rng.standard_t(4, size=(rows, columns)) * 0.3).astype(np.float32)
        w[0, :16] = 0  # a group of zeros (where groups have 16)
        w[1, :16] = np.abs(w[1, :16]) + f(0.1)  # one without negative elements
        w[1, 3] = -w[1].max()  # of two equal magnitudes
        if columns == 77:
            w[0, 16:32] = np.arange(-8, 8) / 2  # ties: halves of the scale
            w[0, 16] = -8
        case = {"rows": rows, "columns": columns, "groupSize": size, "values": [float(x) for x in w.ravel()], "results": []}
        for name, fn in [(f"{b}{'s' if s else 'a'}", (lambda b, s: lambda v: block(v, b, s))(b, s)) for b in (2, 3, 4, 8) for s in (True, False)] + [("1", binary), ("ternary", ternary)]:
            scales, zps, codes = [], [], []
            for row in w:
                for at in range(0, columns, size):
                    scale, zp, c = fn(row[at : at + size])
                    scales.append(float(scale))
                    zps.append(zp)
                    codes += c
            case["results"].append({"name": name, "scales": scales, "zeroPoints": zps, "codes": codes})
        cases.append(case)
    print(json.dumps(cases))
