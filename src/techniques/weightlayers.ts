/** The layers whose weights can be stored in blocks: MatMul, Gemm, Conv, ConvTranspose, LSTM, GRU, RNN, and the tables that Gather reads. */
import type { Model, Node, Value } from "../ir/graph.ts";
import { matcher, namesOf, type Selector } from "../ir/select.ts";
import { allNodes } from "../ir/walk.ts";
import { type DType, isFloat, sizeOf } from "../tensor/dtype.ts";
import { reshape, type Tensor } from "../tensor/tensor.ts";
import { transposed, type Weight, type WeightUse, weightSeenBy, weightsOf } from "../transform/weights.ts";
import { leave } from "./left.ts";
import type { WeightMatrix } from "./matrix.ts";
import type { Layout } from "./quantize/packing.ts";

const recurrent = ["LSTM", "GRU", "RNN"] as const;
const ops = ["MatMul", "Gemm", "Conv", "ConvTranspose", "Gather", ...recurrent] as const;

export interface WeightLayer {
  readonly node: Node;
  readonly op: (typeof ops)[number];
  /** The stored weight, and how the node sees it. */
  readonly weight: Value;
  readonly use: WeightUse;
  readonly matrix: WeightMatrix;
  /** What the node sees; the inputs run along `axis` (of a Conv along all axes from 1), the outputs along the others. */
  readonly shape: readonly number[];
  readonly axis: number;
  readonly layout: Layout;
  /** float32 or float16. */
  readonly dtype: DType;
  /** Gemm's alpha, which goes into the scales. */
  readonly alpha: number;
  /** Layers with equal keys take the same codes. */
  readonly key: string;
}

export interface WeightLayers {
  readonly layers: readonly WeightLayer[];
  /** Reason → names of what stays as it is. */
  readonly left: Map<string, string[]>;
}

/** The layers that the selectors name, in graph order, tables last. */
export function weightLayers(model: Model, options: { include?: Selector; exclude?: Selector } = {}): WeightLayers {
  const left = new Map<string, string[]>();
  const layers: WeightLayer[] = [];
  const add = (value: Value, use: WeightUse) => {
    const found = layerOf(value, use);
    if (typeof found === "string") leave(left, found, use.node);
    else layers.push(found);
  };
  for (const { value, uses } of weightsOf(model, options)) for (const use of uses) add(value, use);
  const include = options.include ? matcher(options.include) : () => true;
  const exclude = options.exclude ? matcher(options.exclude) : () => false;
  for (const node of allNodes(model.graph)) {
    if (node.domain !== "" || (node.opType !== "Gather" && !isRecurrent(node.opType))) continue;
    for (const input of node.opType === "Gather" ? [0] : [1, 2]) {
      const value = node.inputs[input];
      const names = [...namesOf(node), ...(value ? [value.name] : [])];
      if (!include(names, node.opType) || exclude(names, node.opType)) continue;
      if (value?.data && isFloat(value.data.dtype)) {
        if (node.opType !== "Gather" || isTable(node, value.data)) add(value, { node, input, through: [] });
      } else if (node.opType !== "Gather") leave(left, "its weights are computed at run time", node);
    }
  }
  return { layers, left };
}

/** Of `layers`, those that a weight's uses stand for, and whether all of them see it alike. */
export function readersOf(layers: readonly WeightLayer[], { value, uses }: Weight): { own: WeightLayer[]; alike: boolean } {
  const own = layers.filter((l) => l.weight === value && uses.some((u) => u.node === l.node));
  return { own, alike: own.every((l) => l.key === own[0]!.key) };
}

/** What the selected recurrent layers read as weights and is no constant: exporters often reorder the gates at run time. */
export function computedWeights(model: Model, options: { include?: Selector; exclude?: Selector } = {}): Value[] {
  const include = options.include ? matcher(options.include) : () => true;
  const exclude = options.exclude ? matcher(options.exclude) : () => false;
  return [...allNodes(model.graph)].flatMap((n) => {
    if (n.domain !== "" || !isRecurrent(n.opType)) return [];
    const wanted = (v: Value) => include([...namesOf(n), v.name], n.opType) && !exclude([...namesOf(n), v.name], n.opType);
    return n.inputs.slice(1, 3).filter((v): v is Value => v !== null && !v.data && wanted(v));
  });
}

const isRecurrent = (op: string) => (recurrent as readonly string[]).includes(op);

/** Whether a Gather takes whole rows of it. */
function isTable(node: Node, { dtype, shape }: Tensor): boolean {
  const axis = node.int("axis") ?? 0;
  return (dtype === "float32" || dtype === "float16") && shape.length === 2 && (axis === 0 || axis === -2);
}

const keyOf = (value: Value, turned: boolean) => `${value.graph.name}|${value.name}|${turned ? "columns" : "rows"}`;

function layerOf(weight: Value, use: WeightUse): WeightLayer | string {
  const { node } = use;
  const op = node.opType as WeightLayer["op"];
  if (node.domain !== "" || !ops.includes(op)) return `${node.domain ? `${node.domain}.` : ""}${op} has no form with weights in blocks`;
  const odd = transposed(use);
  const stored = weight.data!;
  // A matrix seen plainly or transposed is read from where it lies; anything else is first computed.
  const plain = stored.shape.length === 2 && odd !== null && op !== "Conv" && op !== "ConvTranspose" && !isRecurrent(op);
  const t: Tensor | null = plain
    ? { ...stored, shape: odd ? [stored.shape[1]!, stored.shape[0]!] : stored.shape }
    : use.through.length
      ? weightSeenBy(use, weight)
      : stored;
  if (!t) return "the weight is computed at run time";
  if (t.dtype !== "float32" && t.dtype !== "float16")
    return `computes in ${t.dtype}; kernels with weights in blocks take float32 and float16`;
  const { shape, dtype } = t;
  if (sizeOf(shape) === 0) return "its weight is empty";
  if (shape.length < 2) return `its weight has ${shape.length === 1 ? "one dimension" : "no dimensions"}`;
  const known = { node, op, weight, use, dtype, shape };
  const seen = plain ? "" : use.through.map((n) => `${n.name}<`).join("");
  if (op === "Conv") {
    const rows = shape[0]!;
    const columns = sizeOf(shape) / rows;
    const matrix = { tensor: reshape(t, [rows, columns]), turned: false, rows, columns };
    return { ...known, axis: 1, matrix, layout: { outer: rows, inner: 1 }, alpha: 1, key: seen + keyOf(weight, false) };
  }
  if (op === "ConvTranspose") {
    const columns = shape[0]!;
    const rows = sizeOf(shape) / columns;
    const matrix = { tensor: reshape(t, [columns, rows]), turned: true, rows, columns };
    return { ...known, axis: 0, matrix, layout: { outer: 1, inner: rows }, alpha: 1, key: `${seen}${keyOf(weight, true)}|transposed` };
  }
  if (isRecurrent(op)) {
    // [directions, gates, inputs].
    const columns = shape.at(-1)!;
    const rows = sizeOf(shape) / columns;
    const matrix = { tensor: reshape(t, [rows, columns]), turned: false, rows, columns };
    return {
      ...known,
      axis: shape.length - 1,
      matrix,
      layout: { outer: rows, inner: 1 },
      alpha: 1,
      key: `${keyOf(weight, false)}|recurrent`,
    };
  }
  if (shape.length > 2) {
    if (op !== "MatMul") return `its weight has ${shape.length} dimensions`;
    const [columns, inner] = shape.slice(-2) as [number, number];
    const outer = sizeOf(shape) / (columns * inner);
    const values = batches(t, outer, columns, inner);
    const matrix = { tensor: values, turned: false, rows: outer * inner, columns };
    return { ...known, axis: shape.length - 2, matrix, layout: { outer, inner }, alpha: 1, key: `${seen}${keyOf(weight, true)}|batched` };
  }
  // What a MatMul sees is [columns, rows]; a Gemm with transB and a Gather see [rows, columns].
  const byColumns = op === "MatMul" || (op === "Gemm" && !node.int("transB"));
  const [rows, columns] = (byColumns ? [shape[1], shape[0]] : shape) as [number, number];
  const turned = byColumns !== (plain && odd === true);
  return {
    ...known,
    axis: byColumns ? 0 : 1,
    matrix: { tensor: plain ? stored : t, turned, rows, columns },
    layout: byColumns ? { outer: 1, inner: rows } : { outer: rows, inner: 1 },
    alpha: op === "Gemm" ? (node.float("alpha") ?? 1) : 1,
    key: seen + keyOf(weight, turned),
  };
}

/** The rows of a batch of matrices [outer, columns, inner], each the transpose of one: a tensor that is transposed when it is read. */
function batches(t: Tensor, outer: number, columns: number, inner: number): Tensor {
  const width = t.dtype === "float32" ? 4 : 2;
  const byteLength = outer * columns * inner * width;
  const read = (start = 0, end = byteLength) => {
    const from = t.data instanceof Uint8Array ? t.data : t.data.read();
    const out = new Uint8Array(byteLength);
    for (let o = 0, to = 0; o < outer; o++)
      for (let i = 0; i < inner; i++)
        for (let k = 0; k < columns; k++, to += width) {
          const at = ((o * columns + k) * inner + i) * width;
          for (let b = 0; b < width; b++) out[to + b] = from[at + b]!;
        }
    return out.subarray(start, end);
  };
  return { dtype: t.dtype, shape: [outer * inner, columns], data: { byteLength, read } };
}
