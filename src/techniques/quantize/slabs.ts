/** Round to nearest of weights of any size: slab after slab through one memory, straight to packed blocks. */
import { smallFloats, toHalf } from "../../tensor/dtype.ts";
import { Fault } from "../../tensor/fault.ts";
import { memoryOf } from "../../tensor/kernel.ts";
import { type BlocksKernel, blocksKernel } from "../../tensor/kernels/blocks.ts";
import { readElements, type WeightMatrix } from "../matrix.ts";
import { type BlockScheme, groupsOf, hasZeroPoints, levelsOf } from "./blocks.ts";
import { type PackedBlocks, shiftOf, widthOf } from "./packing.ts";

export interface Rounded {
  readonly blocks: PackedBlocks;
  /** ‖W − Ŵ‖ / ‖W‖. */
  readonly error: number;
}

/** Whether the kernel does this scheme: all but 1 bit and ternary. */
export function isKernelScheme({ bits, ternary }: BlockScheme): boolean {
  return bits > 1 && !ternary;
}

const aligned = (bytes: number) => Math.ceil(bytes / 16) * 16;

/**
 * Makes a rounder of matrices, whose codes, scales and zero points are those of `roundToNearest`, packed. It keeps one memory of about
 * 1.2 `slabBytes` (more only where sixteen columns of a matrix are larger) for all of them. Scales of a float16 matrix are rounded to
 * float16 before codes are taken, as they will be stored. Errors: elements that are not finite.
 */
export function slabRounder(slabBytes = 1 << 25): (m: WeightMatrix, scheme: BlockScheme) => Rounded {
  let memory: WebAssembly.Memory | null = null;
  let kernel: BlocksKernel | null = null;
  let halves = new Uint8Array(0);
  const room = (bytes: number) => {
    if (halves.length < bytes) halves = new Uint8Array(bytes);
    return halves.subarray(0, bytes);
  };
  return (m, scheme) => {
    const { rows, columns, turned, tensor } = m;
    const { groupSize: size } = scheme;
    const bits = widthOf(scheme.bits);
    const levels = levelsOf(scheme);
    const points = hasZeroPoints(scheme);
    const groups = groupsOf(columns, size);
    const blob = (size * bits) / 8;
    // A slab is some rows, or where the matrix is turned some groups of all rows.
    const unit = 4 * (turned ? size * rows : columns);
    const units = Math.max(1, Math.min(turned ? groups : rows, Math.floor(slabBytes / unit)));
    const groupsIn = turned ? units * rows : units * groups;
    const at = { w: 16, scales: 0, points: 0, out: 0 };
    at.scales = aligned(at.w + units * unit);
    at.points = aligned(at.scales + groupsIn * 4);
    at.out = aligned(at.points + (points ? groupsIn : 0));
    const need = at.out + groupsIn * blob;
    if (!memory || !kernel || memory.buffer.byteLength < need) {
      memory = memoryOf(need);
      kernel = blocksKernel(memory);
    }
    const { buffer } = memory;
    new Float64Array(buffer, 0, 2).fill(0);
    const packed = new Uint8Array(rows * groups * blob);
    const scales = new Float32Array(rows * groups);
    const zeroPoints = points ? new Uint8Array(rows * groups) : null;
    for (let from = 0; from < (turned ? groups : rows); from += units) {
      const n = Math.min(units, (turned ? groups : rows) - from);
      const height = turned ? rows : n;
      const width = turned ? Math.min(columns - from * size, n * size) : columns;
      const deep = turned ? n : groups;
      readElements(tensor, from * (turned ? size * rows : columns), new Float32Array(buffer, at.w, height * width), room);
      const [some, someScales] = [height * deep, new Float32Array(buffer, at.scales, height * deep)];
      const fine = kernel.grids(
        at.w,
        height,
        width,
        turned ? 1 : 0,
        size,
        deep,
        points ? 0 : 1,
        levels.high,
        levels.zero,
        at.scales,
        at.points,
      );
      if (!fine) throw new Fault("weights", "not all elements are finite numbers");
      if (tensor.dtype === "float16") roundToHalf(someScales);
      const zeros = points ? at.points : 0;
      const shift = shiftOf(scheme.bits, zeroPoints);
      kernel.codes(at.w, height, width, turned ? 1 : 0, size, deep, bits, levels.high, levels.zero, shift, at.scales, zeros, at.out, 0);
      const codes = new Uint8Array(buffer, at.out, some * blob);
      const bytes = new Uint8Array(buffer, at.points, some);
      if (deep === groups) {
        packed.set(codes, from * groups * blob);
        scales.set(someScales, from * groups);
        zeroPoints?.set(bytes, from * groups);
      } else {
        for (let r = 0; r < rows; r++) {
          const [to, here] = [r * groups + from, r * deep];
          packed.set(codes.subarray(here * blob, (here + deep) * blob), to * blob);
          for (let i = 0; i < deep; i++) scales[to + i] = someScales[here + i]!;
          if (zeroPoints) for (let i = 0; i < deep; i++) zeroPoints[to + i] = bytes[here + i]!;
        }
      }
    }
    const [wrong, all] = new Float64Array(buffer, 0, 2) as unknown as [number, number];
    const error = all > 0 ? Math.sqrt(wrong / all) : 0;
    return { blocks: { rows, columns, groupSize: size, bits, packed, scales, zeroPoints }, error };
  };
}

/** Rounds to the nearest float16, in place. */
export function roundToHalf(values: Float32Array): void {
  const table = smallFloats("float16")!;
  for (let i = 0; i < values.length; i++) values[i] = table[toHalf(values[i]!)]!;
}
