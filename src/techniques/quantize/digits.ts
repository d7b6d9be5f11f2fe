/** Binary and ternary weights in as many bits: digits of base 2 or 3 packed in bytes, unpacked by nodes that a runtime folds when it loads the model. */
import type { Value } from "../../ir/graph.ts";
import type { Build } from "../../ops/build.ts";
import { sizeOf } from "../../tensor/dtype.ts";
import { tensor, wrap } from "../../tensor/tensor.ts";

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
