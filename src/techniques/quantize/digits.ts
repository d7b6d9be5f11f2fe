/** Binary and ternary weights in as many bits: digits of base 2 or 3 packed in bytes, unpacked by nodes that a runtime folds when it loads the model. */
import type { Value } from "../../ir/graph.ts";
import type { Build } from "../../ops/build.ts";
import { sizeOf } from "../../tensor/dtype.ts";
import { Fault } from "../../tensor/fault.ts";
import { floatsOf, tensor, wrap } from "../../tensor/tensor.ts";
import type { Weight } from "../../transform/weights.ts";
import { elementsOf } from "../matrix.ts";
import type { WeightLayer } from "../weightlayers.ts";
import type { Forms } from "./blockforms.ts";
import { groupsOf } from "./blocks.ts";
import { packBlocks } from "./packing.ts";

/** Digits a byte: 2⁸ = 256, 3⁵ = 243. */
export const digitsPerByte = { 2: 8, 3: 5 } as const;

/** Byte i = Σⱼ digits[i·n + j]·baseʲ, with n digits a byte; digits beyond the end are 0. */
export function packDigits(digits: Uint8Array, base: 2 | 3): Uint8Array<ArrayBuffer> {
  const n = digitsPerByte[base];
  const out = new Uint8Array(Math.ceil(digits.length / n));
  for (let i = 0; i < out.length; i++) {
    let byte = 0;
    for (let j = n - 1; j >= 0; j--) byte = byte * base + (digits[i * n + j] ?? 0);
    out[i] = byte;
  }
  return out;
}

/**
 * The float32 tensor of `shape` whose elements are scale·(digit − zero): zero is ½ for base 2 and 1 for base 3. `scales` has a shape that
 * broadcasts. All of it is ordinary ops of constants, so that it costs time and memory only once, when the model is loaded.
 */
export function digits(b: Build, name: string, shape: readonly number[], codes: Uint8Array, base: 2 | 3, scales: Value): Value {
  const n = digitsPerByte[base];
  const packed = packDigits(codes, base);
  const bytes = b.constant(wrap("uint8", [packed.length, 1], packed), `${name}/digits`);
  const powers = b.constant(
    tensor(
      "int32",
      [n],
      Array.from({ length: n }, (_, i) => base ** i),
    ),
    "powers",
  );
  let v = b.op("Mod", [b.div(b.cast(bytes, "int32"), powers), b.scalar(base, "int32")]);
  const size = sizeOf(shape);
  if (packed.length * n !== size) v = b.op("Slice", [b.reshape(v, [-1]), b.i64([0]), b.i64([size])]);
  const centred = b.sub(b.cast(b.reshape(v, shape), "float32"), b.f32((base - 1) / 2));
  return b.mul(centred, scales);
}

/** Puts digits and scales in the place of a weight of two or three values in each output channel. Errors: a weight of more values. */
export function storeDigits(b: Build, { value }: Weight, axis: number, note: (line: string) => void): void {
  const { shape } = value.data!;
  const w = floatsOf(value.data!);
  const inner = sizeOf(shape.slice(axis + 1));
  const channels = shape[axis]!;
  const channelOf = (i: number) => Math.floor(i / inner) % channels;
  const scales = magnitudes(value.name, w, channels, channelOf);
  const base = w.some((x, i) => x === 0 && scales[channelOf(i)] !== 0) ? 3 : 2;
  const codes = Uint8Array.from(w, (x) => (base === 2 ? Number(x >= 0) : 1 + Math.sign(x)));
  const same = scales.every((s) => s === scales[0]);
  const factors = base === 2 ? scales.map((s) => 2 * s) : scales;
  const dims = shape.map((d, i) => (i === axis ? d : 1));
  const stored = b.constant(same ? tensor("float32", [], [factors[0]!]) : tensor("float32", dims, factors), `${value.name}/scale`);
  const y = digits(b, value.name, shape, codes, base, stored);
  y.type = { dtype: "float32", shape };
  value.replaceUses(y);
  value.graph.removeInitializer(value);
  note(`${value.name} [${shape}]: ${base} values, ${Math.ceil(w.length / digitsPerByte[base])} bytes`);
}

/** Most columns that a scale of MatMulNBits may serve (onnxruntime 1.30). */
const mostColumns = 256;

/**
 * Puts MatMulNBits with 2-bit codes (1, 2, 3 for −1, 0, 1) in the place of a MatMul or Gemm whose weight has two or three values in each
 * output channel: the runtime multiplies the codes as they are. Errors: a weight of more values.
 */
export function storeNBits(forms: Forms, layer: WeightLayer, note: (line: string) => void): void {
  const { weight, matrix } = layer;
  const { rows, columns } = matrix;
  const w = elementsOf(matrix);
  const scales = magnitudes(weight.name, w, rows, (i) => Math.floor(i / columns));
  let groupSize = 16;
  while (groupSize < Math.min(columns, mostColumns)) groupSize *= 2;
  const groups = groupsOf(columns, groupSize);
  const blocks = packBlocks({
    rows,
    columns,
    groupSize,
    bits: 2,
    codes: Uint8Array.from(w, (x) => 2 + Math.sign(x)),
    scales: Float32Array.from({ length: rows * groups }, (_, i) => scales[Math.floor(i / groups)]!),
    zeroPoints: null,
  });
  forms.nbits(layer, blocks, 0);
  if (weight.uses.size === 0) weight.graph.removeInitializer(weight);
  note(`${weight.name} [${rows}, ${columns}]: 2 bits, ${blocks.packed.length} bytes`);
}

/** The magnitude of each channel's values. Errors: a channel with more than one beside 0. */
function magnitudes(name: string, w: Float32Array, channels: number, channelOf: (i: number) => number): Float32Array {
  const out = new Float32Array(channels);
  w.forEach((x, i) => {
    out[channelOf(i)] = Math.max(out[channelOf(i)]!, Math.abs(x));
  });
  if (w.some((x, i) => x !== 0 && Math.abs(x) !== out[channelOf(i)]))
    throw new Fault("binary", `"${name}" has more than one magnitude in a channel`);
  return out;
}
