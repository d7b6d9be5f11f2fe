/** Nodes on quantized weights and activations, each with what it should give by ONNX's (or ONNX Runtime's) definition, worked out here. */
import type { float, Value } from "../../src/ir/graph.ts";
import type { Build } from "../../src/ops/build.ts";
import { type DType, intRange, isFloat } from "../../src/tensor/dtype.ts";
import { random } from "../../src/tensor/random.ts";
import { numbersOf, type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { domainOf, modelFor, type Probe } from "./ops.ts";

const [M, K, N] = [3, 64, 8];

type Matrix = { rows: number; columns: number; at: (r: number, c: number) => number };

const normals = (n: number, seed: number) => random(seed, "probe").fillNormal(new Float32Array(n));
const product = (a: Matrix, b: Matrix): Float64Array => {
  const out = new Float64Array(a.rows * b.columns);
  for (let r = 0; r < a.rows; r++)
    for (let c = 0; c < b.columns; c++) for (let k = 0; k < a.columns; k++) out[r * b.columns + c]! += a.at(r, k) * b.at(k, c);
  return out;
};
const rows = (values: ArrayLike<number>, columns: number): Matrix => ({
  rows: values.length / columns,
  columns,
  at: (r, c) => values[r * columns + c]!,
});

interface Setting {
  readonly op: string;
  readonly version: number;
  readonly attrs?: Readonly<Record<string, number | ReturnType<typeof float>>>;
  readonly outputs?: number;
  readonly inputs: (b: Build, input: (values: ArrayLike<number>, shape: readonly number[], dtype?: DType) => Value) => (Value | null)[];
  readonly expected: ArrayLike<number> | null;
}

function probe(s: Setting): Probe {
  const { model, b } = modelFor(s.op, s.version);
  const feeds: Record<string, Tensor> = {};
  const input = (values: ArrayLike<number>, shape: readonly number[], dtype: DType = "float32") => {
    const name = `x${Object.keys(feeds).length}`;
    feeds[name] = tensor("float32", shape, Array.from(values));
    const x = model.graph.input(name, "float32", shape);
    return dtype === "float32" ? x : b.cast(x, dtype);
  };
  const { domain, type } = domainOf(s.op);
  const node = b.node(type, s.inputs(b, input), s.attrs ?? {}, s.outputs ?? 1, domain);
  model.graph.addOutput(b.cast(node.outputs[0]!, "float32"));
  return { op: s.op, version: s.version, model, node, feeds, expected: s.expected };
}

const constant = (b: Build, dtype: DType, shape: readonly number[], values: ArrayLike<number>) =>
  b.graph.initializer("c", tensor(dtype, shape, Array.from(values)));

/** Codes `bits` wide side by side in bytes, the first in the low bits. */
function packed(codes: ArrayLike<number>, bits: number, perRow: number): Uint8Array {
  const bytes = Math.ceil((perRow * bits) / 8);
  const count = codes.length / perRow;
  const out = new Uint8Array(count * bytes);
  for (let r = 0; r < count; r++)
    for (let i = 0; i < perRow; i++)
      for (let k = 0; k < bits; k++) {
        const at = i * bits + k;
        if ((codes[r * perRow + i]! >> k) & 1) out[r * bytes + (at >> 3)]! |= 1 << (at & 7);
      }
  return out;
}

const codesOf = (n: number, levels: number, seed: number) => {
  const r = random(seed, "codes");
  return Array.from({ length: n }, () => r.below(levels));
};

function* nbits(): Generator<Probe> {
  for (const type of ["float32", "float16", "bfloat16"] as const)
    for (const bits of [1, 2, 3, 4, 5, 6, 7, 8])
      for (const block of [16, 32, 64, 128, 256])
        for (const zp of ["none", "uint8", type] as const)
          for (const level of [0, 1, 2, 3, 4]) {
            if (level && (zp === type || (level < 4 && block !== 32))) continue;
            const columns = Math.max(K, block);
            const blocks = columns / block;
            const codes = codesOf(N * columns, 2 ** bits, bits);
            const scales = Float32Array.from({ length: N * blocks }, (_, i) => 1 / (16 + (i % 5)));
            const zeros = zp === "none" ? null : codesOf(N * blocks, 2 ** bits, bits + 20);
            const x = normals(M * columns, 3);
            // Weights that a half holds exactly would hide nothing: scales are rounded as they are stored.
            const stored = isFloat(type) && type !== "float32" ? numbersOf(tensor(type, [scales.length], scales)) : scales;
            const fedX = type === "float32" ? x : numbersOf(tensor(type, [x.length], x));
            const w: Matrix = {
              rows: columns,
              columns: N,
              at: (k, n) => {
                const g = n * blocks + Math.floor(k / block);
                return (codes[n * columns + k]! - (zeros ? zeros[g]! : 2 ** (bits - 1))) * stored[g]!;
              },
            };
            yield probe({
              op: "com.microsoft.MatMulNBits",
              version: 1,
              attrs: { K: columns, N, bits, block_size: block, ...(level ? { accuracy_level: level } : {}) },
              inputs: (b, input) => [
                input(x, [M, columns], type),
                constant(b, "uint8", [N, blocks, (block * bits) / 8], packed(codes, bits, columns)),
                constant(b, type, [N * blocks], scales),
                zeros === null
                  ? null
                  : zp === "uint8"
                    ? constant(b, "uint8", [N * Math.ceil((blocks * bits) / 8)], packed(zeros, bits, blocks))
                    : constant(b, type, [N * blocks], zeros),
              ],
              expected: product(rows(fedX, columns), w),
            });
          }
}

/** The 16 numbers of FP4 and NF4 as ONNX Runtime's MatMulBnb4 has them. */
const fp4 = [0, 0.00520833, 0.66666667, 1, 0.33333333, 0.5, 0.16666667, 0.25];
const nf4 = [
  -1, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0, 0.0795803, 0.1609302, 0.2461123, 0.33791524,
  0.44070983, 0.562617, 0.72295684, 1,
];

function* bnb4(): Generator<Probe> {
  for (const type of ["float32", "float16", "bfloat16"] as const)
    for (const quant of [0, 1])
      for (const block of [16, 32, 64, 128]) {
        const columns = Math.max(K, block);
        const codes = codesOf(N * columns, 16, 5);
        const absmax = Float32Array.from({ length: (N * columns) / block }, (_, i) => 0.5 + (i % 4) / 8);
        const level = (c: number) => (quant ? nf4[c]! : (c & 8 ? -1 : 1) * fp4[c & 7]!);
        const bytes = Uint8Array.from({ length: codes.length / 2 }, (_, i) => (codes[2 * i]! << 4) | codes[2 * i + 1]!);
        const x = normals(M * columns, 3);
        const fed = type === "float32" ? x : numbersOf(tensor(type, [x.length], x));
        yield probe({
          op: "com.microsoft.MatMulBnb4",
          version: 1,
          attrs: { K: columns, N, block_size: block, quant_type: quant },
          inputs: (b, input) => [
            input(x, [M, columns], type),
            constant(b, "uint8", [bytes.length], bytes),
            constant(b, type, [absmax.length], absmax),
          ],
          expected: product(rows(fed, columns), {
            rows: columns,
            columns: N,
            at: (k, n) => level(codes[n * columns + k]!) * absmax[Math.floor((n * columns + k) / block)]!,
          }),
        });
      }
}

function* gatherBlocks(): Generator<Probe> {
  for (const data of ["int4", "uint4", "uint8"] as const)
    for (const bits of data === "uint8" ? [2, 4, 8] : [4])
      for (const scale of ["float32", "float16", "bfloat16"] as const)
        for (const block of [16, 32, 64, 128]) {
          const columns = Math.max(K, block);
          const codes = codesOf(N * columns, 2 ** bits, 7);
          const signed = data === "int4";
          const scales = Float32Array.from({ length: (N * columns) / block }, (_, i) => 2 ** -(2 + (i % 3)));
          const zero = signed ? 0 : data === "uint8" ? 2 ** (bits - 1) : 0;
          const taken = [5, 2];
          yield probe({
            op: "com.microsoft.GatherBlockQuantized",
            version: 1,
            attrs: { gather_axis: 0, quantize_axis: 1, block_size: block, ...(data === "uint8" ? { bits } : {}) },
            inputs: (b) => [
              data === "uint8"
                ? constant(b, "uint8", [N, (columns * bits) / 8], packed(codes, bits, columns))
                : constant(
                    b,
                    data,
                    [N, columns],
                    codes.map((c) => (signed ? c - 8 : c)),
                  ),
              constant(b, "int64", [2], taken),
              constant(b, scale, [N, columns / block], scales),
            ],
            expected: taken.flatMap((r) =>
              Array.from({ length: columns }, (_, c) => {
                const code = codes[r * columns + c]! - (signed ? 8 : zero);
                return code * scales[Math.floor((r * columns + c) / block)]!;
              }),
            ),
          });
        }
}

const shapes = { tensor: [] as number[], channel: [K], block: [2, K] } as const;

/** QuantizeLinear and DequantizeLinear, per tensor, per channel of axis 1 and in blocks of 2 along axis 0. */
function* rounding(): Generator<Probe> {
  const codes =
    "int8 uint8 int16 uint16 int32 int4 uint4 int2 uint2 float8e4m3fn float8e4m3fnuz float8e5m2 float8e5m2fnuz float4e2m1".split(
      " ",
    ) as DType[];
  for (const version of [10, 13, 19, 21, 23, 24, 25])
    for (const type of codes)
      for (const kind of ["tensor", "channel", "block"] as const)
        for (const real of ["float32", "float16", "bfloat16"] as const) {
          if (kind === "block" && version < 21) continue;
          const shape = shapes[kind];
          const count = shape.reduce((a, d) => a * d, 1);
          const scales = Float32Array.from({ length: count }, (_, i) => 2 ** -(i % 3));
          const scaleAt = (r: number, c: number) =>
            kind === "tensor" ? scales[0]! : kind === "channel" ? scales[c]! : scales[(r >> 1) * K + c]!;
          const attrs = kind === "tensor" ? {} : { axis: kind === "block" ? 0 : 1, ...(kind === "block" ? { block_size: 2 } : {}) };
          const [low, high] = isFloat(type) ? [-2, 2] : type === "int32" ? [-100, 100] : intRange(type);
          const values = Array.from({ length: 4 * K }, (_, i) => (isFloat(type) ? (i % 5) - 2 : low + ((i * 37) % (high - low + 1))));
          yield probe({
            op: "DequantizeLinear",
            version,
            attrs,
            inputs: (b) => [constant(b, type, [4, K], values), constant(b, real, shape, scales)],
            expected: values.map((v, i) => v * scaleAt(Math.floor(i / K), i % K)),
          });
          if (type === "int32") continue;
          const x = values.map((v, i) => v * scaleAt(Math.floor(i / K), i % K));
          const dequantized = probe({
            op: "QuantizeLinear",
            version,
            attrs,
            inputs: (b, input) => [
              input(x, [4, K], real),
              constant(b, real, shape, scales),
              constant(b, type, shape, new Array(count).fill(0)),
            ],
            expected: values,
          });
          yield dequantized;
        }
}

/** 8-bit products. */
function* products(): Generator<Probe> {
  const pairs = ["uint8", "int8"].flatMap((a) => ["uint8", "int8"].map((w) => [a, w] as [DType, DType]));
  const middle = (t: DType) => (t === "uint8" ? 128 : 0);
  for (const [a, w] of pairs)
    for (const kind of ["tensor", "channel"] as const) {
      const at = kind === "tensor" ? [] : [N];
      const zeros = kind === "tensor" ? [middle(w)] : new Array(N).fill(middle(w));
      const x = codesOf(M * K, 60, 11).map((c) => c + middle(a) - 30);
      const weights = codesOf(K * N, 60, 12).map((c) => c + middle(w) - 30);
      const xs = rows(
        x.map((v) => v - middle(a)),
        K,
      );
      const ws = rows(
        weights.map((v) => v - middle(w)),
        N,
      );
      const sums = product(xs, ws);
      const scales = Float32Array.from({ length: kind === "tensor" ? 1 : N }, (_, i) => (1 + (i % 3)) / 64);
      const scaleOf = (n: number) => scales[kind === "tensor" ? 0 : n]!;
      yield probe({
        op: "MatMulInteger",
        version: 10,
        inputs: (b, input) => [
          input(x, [M, K], a),
          constant(b, w, [K, N], weights),
          constant(b, a, [], [middle(a)]),
          constant(b, w, at, zeros),
        ],
        expected: sums,
      });
      yield probe({
        op: "com.microsoft.MatMulIntegerToFloat",
        version: 1,
        inputs: (b, input) => [
          input(x, [M, K], a),
          constant(b, w, [K, N], weights),
          constant(b, "float32", [], [1 / 8]),
          constant(b, "float32", at, scales),
          constant(b, a, [], [middle(a)]),
          constant(b, w, at, zeros),
        ],
        expected: sums.map((s, i) => (s / 8) * scaleOf(i % N)),
      });
      const [low, high] = intRange(a);
      const requantized = sums.map((s, i) => Math.min(high, Math.max(low, Math.round((s / 8) * scaleOf(i % N)) + middle(a))));
      for (const version of [10, 21])
        yield probe({
          op: "QLinearMatMul",
          version,
          inputs: (b, input) => [
            input(x, [M, K], a),
            constant(b, "float32", [], [1 / 8]),
            constant(b, a, [], [middle(a)]),
            constant(b, w, [K, N], weights),
            constant(b, "float32", at, scales),
            constant(b, w, at, zeros),
            constant(b, "float32", [], [1]),
            constant(b, a, [], [middle(a)]),
          ],
          expected: requantized,
        });
      // A 1×1 convolution over M places is the same product, transposed.
      const turned = (v: ArrayLike<number>, r: number, c: number) =>
        Array.from({ length: v.length }, (_, i) => v[(i % r) * c + Math.floor(i / r)]!);
      const image = turned(x, M, K);
      const filters = turned(weights, K, N);
      yield probe({
        op: "ConvInteger",
        version: 10,
        inputs: (b, input) => [
          input(image, [1, K, M, 1], a),
          constant(b, w, [N, K, 1, 1], filters),
          constant(b, a, [], [middle(a)]),
          constant(b, w, at, zeros),
        ],
        expected: turned(sums, M, N),
      });
      yield probe({
        op: "QLinearConv",
        version: 10,
        inputs: (b, input) => [
          input(image, [1, K, M, 1], a),
          constant(b, "float32", [], [1 / 8]),
          constant(b, a, [], [middle(a)]),
          constant(b, w, [N, K, 1, 1], filters),
          constant(b, "float32", at, scales),
          constant(b, w, at, zeros),
          constant(b, "float32", [], [1]),
          constant(b, a, [], [middle(a)]),
        ],
        expected: turned(requantized, M, N),
      });
      if (a === "uint8")
        yield probe({
          op: "com.microsoft.DynamicQuantizeMatMul",
          version: 1,
          inputs: (b, input) => [
            // 0 and 255 are among the inputs, so that the scale is 1.
            input([0, 255, ...x.slice(2)], [M, K]),
            constant(b, w, [K, N], weights),
            constant(b, "float32", at, scales),
            constant(b, w, at, zeros),
          ],
          expected: product(rows([0, 255, ...x.slice(2)], K), ws).map((s, i) => s * scaleOf(i % N)),
        });
    }
}

/** Elementwise ops on 8-bit codes (ONNX Runtime's own), loading only. */
function* elementwise(): Generator<Probe> {
  const s = (b: Build) => constant(b, "float32", [], [0.5]);
  for (const type of ["uint8", "int8"] as const) {
    const x = codesOf(16, 100, 4);
    const z = (b: Build) => constant(b, type, [], [0]);
    const pair: Setting["inputs"] = (b, input) => [
      input(x, [1, 1, 4, 4], type),
      s(b),
      z(b),
      input(x, [1, 1, 4, 4], type),
      s(b),
      z(b),
      s(b),
      z(b),
    ];
    const single: Setting["inputs"] = (b, input) => [input(x, [1, 1, 4, 4], type), s(b), z(b), s(b), z(b)];
    const own = (name: string, inputs: Setting["inputs"], attrs = {}) =>
      probe({ op: `com.microsoft.${name}`, version: 1, inputs, attrs, expected: null });
    yield own("QLinearAdd", pair);
    yield own("QLinearMul", pair);
    yield own("QLinearSigmoid", single);
    yield own("QLinearLeakyRelu", single);
    yield own("QLinearGlobalAveragePool", single);
    yield own("QLinearSoftmax", single, { opset: 13 });
    yield own("QLinearConcat", (b, input) => [s(b), z(b), input(x, [4, 4], type), s(b), z(b), input(x, [4, 4], type), s(b), z(b)], {
      axis: 0,
    });
  }
}

export function* quantizedProbes(): Generator<Probe> {
  yield* nbits();
  yield* bnb4();
  yield* gatherBlocks();
  yield* rounding();
  yield* products();
  yield* elementwise();
}
