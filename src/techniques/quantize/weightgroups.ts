/** Weights as units of rounding: the layers that share codes, what they see of them, what they take, and how they are written. */
import { cloneModel, type Model } from "../../ir/graph.ts";
import { Fault } from "../../tensor/fault.ts";
import { type Tensor, tensor } from "../../tensor/tensor.ts";
import { upgrade } from "../../transform/upgrade.ts";
import { raiseIrVersion } from "../../transform/weights.ts";
import { elementsOf } from "../matrix.ts";
import type { Slot } from "../sensitivity.ts";
import { type WeightLayer, weightLayers } from "../weightlayers.ts";
import { formsOf } from "./blockforms.ts";
import { type BlockCodes, type BlockScheme, dequantizeBlocks, groupsOf, hasZeroPoints } from "./blocks.ts";
import { arranged, widthOf } from "./packing.ts";
import { blocksIn, codesIn, type Rounding } from "./rounding.ts";

export type Bits = BlockScheme["bits"];

/** Which layers, and in what blocks. */
export interface GroupOptions {
  readonly include: string;
  readonly exclude: string;
  readonly smallest: number;
  readonly groupSize: number;
  readonly symmetric: boolean;
}

/** Layers that take the same codes, and what they may get. */
export interface Group {
  readonly name: string;
  readonly key: string;
  readonly layers: readonly WeightLayer[];
  readonly elements: number;
  readonly columns: number;
  /** Of the weight as it is. */
  readonly bytes: number;
  /** Where the weights are read, for each way of seeing them. */
  readonly slots: readonly (Slot & { readonly layer: WeightLayer })[];
}

/** Blocks no larger than it takes for all columns. */
export function schemeOf(bits: Bits, columns: number, p: GroupOptions): BlockScheme {
  let { groupSize } = p;
  while (groupSize > 16 && groupSize / 2 >= columns) groupSize /= 2;
  return { bits, groupSize, symmetric: p.symmetric };
}

/** Layers by the codes they share, and reasons for those left. */
export function grouped(model: Model, p: GroupOptions, widths: readonly Bits[]): { groups: Group[]; left: Map<string, string[]> } {
  const { layers, left } = weightLayers(model, { include: p.include, ...(p.exclude ? { exclude: p.exclude } : {}) });
  const byKey = new Map<string, WeightLayer[]>();
  for (const l of layers) byKey.set(l.key, [...(byKey.get(l.key) ?? []), l]);
  const stays = layers.some((l) => formOf(l) === "dequantized") ? refusal(model, widths) : null;
  const groups: Group[] = [];
  const names = new Map<string, number>();
  for (const [key, shared] of byKey) {
    const [first] = shared as [WeightLayer];
    const { rows, columns } = first.matrix;
    const why =
      rows * columns < p.smallest
        ? `fewer than ${p.smallest} weights (smallest)`
        : stays && shared.some((l) => formOf(l) === "dequantized")
          ? stays
          : shared.some((l) => formOf(l) === null)
            ? "its rows are no whole bytes of codes"
            : null;
    if (why) {
      left.set(why, [...(left.get(why) ?? []), first.weight.name]);
      continue;
    }
    const again = names.get(first.weight.name) ?? 0;
    names.set(first.weight.name, again + 1);
    const name = again ? `${first.weight.name} (${again + 1})` : first.weight.name;
    // Layers may see one matrix in two ways: a table as it is, and turned.
    const ways = new Map<string, WeightLayer[]>();
    for (const l of shared) ways.set(`${l.shape}`, [...(ways.get(`${l.shape}`) ?? []), l]);
    const slots = [...ways.values()].map((of, i) => ({
      name: i ? `${name}/${i}` : name,
      readers: of.map((l) => ({ node: l.node, input: l.use.input })),
      weights: () => seen(of[0]!, elementsOf(first.matrix)),
      layer: of[0]!,
    }));
    groups.push({
      name,
      key,
      layers: shared,
      elements: rows * columns,
      columns,
      bytes: rows * columns * (first.dtype === "float16" ? 2 : 4),
      slots,
    });
  }
  return { groups, left };
}

/** Why DequantizeLinear in blocks cannot be had; null: it can. */
function refusal(model: Model, widths: readonly Bits[]): string | null {
  const opset = widths.includes(2) ? 25 : 21;
  try {
    upgrade(cloneModel(model), opset);
    return null;
  } catch (e) {
    if (e instanceof Fault) return `needs DequantizeLinear of opset ${opset}, and ${e.message}`;
    throw e;
  }
}

/** A matrix [rows, columns] as the layer's nodes see it. */
function seen(layer: WeightLayer, values: Float32Array): Tensor {
  return tensor(layer.dtype, layer.shape, arranged(values, layer.matrix.columns, layer.layout));
}

/** What each way of seeing the weights would see of these codes. */
export function trials(g: Group, codes: BlockCodes): [Slot, Tensor][] {
  const values = dequantizeBlocks(codes);
  return g.slots.map((s) => [s, seen(s.layer, values)]);
}

/** Spelled as MatMulNBits, GatherBlockQuantized or DequantizeLinear; null: cannot be. */
function formOf(l: WeightLayer): "nbits" | "gather" | "dequantized" | null {
  if (l.op === "Gather") return l.matrix.columns % 4 === 0 ? "gather" : null;
  return l.op !== "Conv" && l.shape.length === 2 ? "nbits" : "dequantized";
}

/** Bytes of codes, scales and zero points. */
export function bytesOf({ layers }: Group, scheme: BlockScheme): number {
  const { rows, columns } = layers[0]!.matrix;
  const bits = widthOf(scheme.bits);
  const groups = groupsOf(columns, scheme.groupSize);
  const codes = formOf(layers[0]!) === "nbits" ? groups * scheme.groupSize : columns;
  const zeros = hasZeroPoints(scheme) ? Math.ceil((groups * bits) / 8) : 0;
  return rows * (Math.ceil((codes * bits) / 8) + groups * (layers[0]!.dtype === "float16" ? 2 : 4) + zeros);
}

/** Puts the layers on codes of the widths given, raising the opset where DequantizeLinear must. */
export function write(
  model: Model,
  widths: ReadonlyMap<string, Bits>,
  p: GroupOptions,
  round: Rounding,
  note: (line: string) => void,
): WeightLayer[] {
  const layersNow = () =>
    weightLayers(model, { include: p.include, ...(p.exclude ? { exclude: p.exclude } : {}) }).layers.filter((l) => widths.has(l.key));
  const dq = layersNow().filter((l) => formOf(l) === "dequantized");
  const opset = dq.some((l) => widths.get(l.key) === 2) ? 25 : dq.length ? 21 : 7;
  const from = model.opsets.get("") ?? 1;
  if (opset > from) {
    upgrade(model, opset);
    note(`opset ${from} → ${opset}, which ${dq.length ? "weights of Convs in blocks need" : "an Add needs"}`);
  }
  raiseIrVersion(model, 4);
  const forms = formsOf(model);
  const byKey = new Map<string, WeightLayer[]>();
  for (const l of layersNow()) byKey.set(l.key, [...(byKey.get(l.key) ?? []), l]);
  for (const [key, layers] of byKey) {
    const coded = round(layers, schemeOf(widths.get(key)!, layers[0]!.matrix.columns, p));
    const tied = layers.some((l) => formOf(l) === "nbits");
    for (const l of layers) {
      const form = formOf(l);
      if (form === "nbits") forms.nbits(l, blocksIn(coded), 0);
      else if (form === "gather") forms.gather(l, blocksIn(coded), tied && l.matrix.columns % blocksIn(coded).groupSize === 0);
      else forms.dequantized(l, codesIn(coded), false, false);
    }
  }
  return [...byKey.values()].flat();
}
