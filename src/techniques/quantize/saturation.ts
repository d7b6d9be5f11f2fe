/**
 * What CPUs with AVX2 or AVX-512 but without VNNI make of uint8 × int8: their instruction vpmaddubsw adds two products in 16 bits and clips
 * the sum. Emulated on a sample of rows of the user's data.
 */
import type { Dataset } from "../../data/dataset.ts";
import type { Model, Value } from "../../ir/graph.ts";
import { labelOf } from "../../ir/walk.ts";
import { type Observer, observe } from "../../runtime/observe.ts";
import { roundEven } from "../../tensor/dtype.ts";
import { floatsOf, numbersOf, type Tensor } from "../../tensor/tensor.ts";
import { inputOf, type Layer } from "./layers.ts";
import { depthwise, matrix, rows } from "./patches.ts";
import { type Affine, affine } from "./scheme.ts";
import type { StoredWeight } from "./store.ts";
import { percent } from "./ways.ts";

/** Products and additions a layer and example: rows are sampled evenly to stay near it. */
const budget = 2e6;

/** Sums over columns of codes × weights, exact, and with each pair of adjacent products clipped to 16 bits. */
export function pairSums(
  codes: ArrayLike<number>,
  from: number,
  weights: ArrayLike<number>,
  at: number,
  columns: number,
): [number, number] {
  let [exact, clipped] = [0, 0];
  for (let k = 0; k < columns; k += 2) {
    const pair = codes[from + k]! * weights[at + k]! + (k + 1 < columns ? codes[from + k + 1]! * weights[at + k + 1]! : 0);
    exact += pair;
    clipped += pair > 32767 ? 32767 : pair < -32768 ? -32768 : pair;
  }
  return [exact, clipped];
}

interface Change {
  wrong: number;
  all: number;
}

/**
 * ‖y − y′‖ / ‖y‖ of each layer, y its integer products with exact sums and y′ with clipped ones, over rows of the data; 0 where nothing
 * clips. Depthwise Convs have a kernel of their own that does not clip and are left out. `inputs`: the scale of a layer's input where it is
 * fixed; else it is that of each example. The order of pairs within a kernel is not documented: neighbours along the summed axis are taken,
 * for a Conv with channels innermost.
 */
export async function saturation(
  model: Model,
  weights: ReadonlyMap<Layer, StoredWeight>,
  inputs: (l: Layer) => Affine | null,
  data: Dataset,
  threads: number,
): Promise<Map<Layer, number>> {
  const readers = new Map<Value, Layer[]>();
  const matrices = new Map<Layer, Int8Array>();
  for (const [l, w] of weights) {
    if (w.codes.data!.dtype !== "int8" || depthwise(l)) continue;
    readers.set(inputOf(l), [...(readers.get(inputOf(l)) ?? []), l]);
    matrices.set(l, matrix(l, numbersOf(w.codes.data!)));
  }
  const changes = new Map<Layer, Change>();
  const observer: Observer<null> = {
    init: () => null,
    update(_, x, __, of) {
      for (const l of (of && readers.get(of)) ?? []) {
        const sum = changes.get(l) ?? { wrong: 0, all: 0 };
        changes.set(l, sum);
        addLayer(sum, l, x, inputs(l) ?? affine(rangeOf(x), "uint8", false), matrices.get(l)!, weights.get(l)!);
      }
      return null;
    },
  };
  await observe(model, readers.keys(), data, observer, { threads, batchSize: 1 });
  return new Map([...changes].map(([l, { wrong, all }]) => [l, all > 0 ? Math.sqrt(wrong / all) : wrong > 0 ? Infinity : 0]));
}

function addLayer(sum: Change, l: Layer, x: Tensor, a: Affine, table: ArrayLike<number>, w: StoredWeight): void {
  const columns = table.length / l.channels;
  const most = Math.max(2, Math.floor(budget / table.length));
  const values = floatsOf(x);
  const row = new Uint8Array(columns);
  for (const { at, channels } of rows(l, x.shape, most)) {
    for (let k = 0; k < columns; k++) {
      const i = at(k);
      row[k] = i < 0 ? a.zeroPoint : Math.min(255, Math.max(0, roundEven(values[i]! / a.scale) + a.zeroPoint));
    }
    for (let c = channels[0]; c < channels[1]; c++) {
      const [exact, clipped] = pairSums(row, 0, table, c * columns, columns);
      let offset = 0;
      for (let k = 0; k < columns; k++) offset += table[c * columns + k]!;
      const scale = w.scale[w.scale.length === 1 ? 0 : c]! * a.scale;
      sum.wrong += (scale * (exact - clipped)) ** 2;
      sum.all += (scale * (exact - a.zeroPoint * offset)) ** 2;
    }
  }
}

function rangeOf(x: Tensor): { min: number; max: number } {
  let [min, max] = [0, 0];
  for (const v of floatsOf(x)) {
    if (v < min) min = v;
    else if (v > max) max = v;
  }
  return { min, max };
}

/** A line on the layers that would change by more than a hundredth; null if there is none. */
export function saturationNote(changes: ReadonlyMap<Layer, number>): string | null {
  const bad = [...changes].filter(([, e]) => e > 0.01).sort(([, a], [, b]) => b - a);
  if (bad.length === 0) return null;
  const worst = bad.slice(0, 4).map(([l, e]) => `${labelOf(l.node)} by ${percent(e)}`);
  return `on CPUs with AVX2 or AVX-512 but without VNNI, 16-bit sums of uint8 × int8 would clip and change ${bad.length} of ${changes.size} layers by more than 1 % (${worst.join(", ")}${bad.length > 4 ? " …" : ""}; estimated from neighbouring pairs on a sample of rows); reduceRange=true keeps them right there`;
}
