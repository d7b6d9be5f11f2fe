/** How a node written before a change of its op's definition is written after it. The nodes these make suit every later opset, too. */
import { floats, type Node, type Value } from "../ir/graph.ts";
import { constantOf, labelOf } from "../ir/walk.ts";
import type { Build } from "../ops/build.ts";
import { type DType, dtypeOfCode, dtypes } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { integersOf, numbersOf, tensor } from "../tensor/tensor.ts";

/** Changes the node (its outputs keep their names); `b` spells for the opset aimed at. Errors: a form that has no newer spelling. */
export type Rewrite = (node: Node, b: Build) => void;

const stuck = (node: Node, why: string) => new Fault("upgrade", `${node.opType} (node "${labelOf(node)}") ${why}`);

/** Takes an attribute off a node. */
function take(node: Node, name: string) {
  const a = node.attrs.get(name);
  node.attrs.delete(name);
  return a;
}
function takeInts(node: Node, name: string): readonly number[] | undefined {
  const a = take(node, name);
  return a?.type === "ints" ? a.value : undefined;
}
function takeNumber(node: Node, name: string): number | undefined {
  const a = take(node, name);
  return a?.type === "int" || a?.type === "float" ? a.value : undefined;
}

/** The attribute becomes an int64 input; nothing where it is not given. */
const intsToInput =
  (name: string, index: number): Rewrite =>
  (node, b) => {
    const ints = takeInts(node, name);
    if (ints) node.setInput(index, b.i64(ints));
  };

const drop =
  (...names: string[]): Rewrite =>
  (node) => {
    for (const n of names) node.attrs.delete(n);
  };

/** The element type of a float value; where nothing says, float32. */
function floatType(v: Value | null | undefined): DType {
  for (let at = v, i = 0; at && i < 64; at = at.producer?.inputs[0], i++) {
    if (at.type) return at.type.dtype;
    const to = at.producer?.opType === "Cast" ? dtypeOfCode(at.producer.int("to") ?? 0) : null;
    if (to) return to;
  }
  return "float32";
}

const ndimLike = new Set(
  (
    "Abs Add AveragePool BatchNormalization Cast Ceil Clip Concat Conv ConvTranspose Div Dropout Elu Erf Exp Floor GlobalAveragePool " +
    "GlobalMaxPool HardSigmoid Identity InstanceNormalization LRN LeakyRelu Log LogSoftmax LpNormalization MatMul MaxPool Mul Neg PRelu Pad Pow " +
    "Reciprocal Relu Resize Selu Sigmoid Slice Softmax Softplus Split Sqrt Sub Sum Tanh Tile Transpose Upsample Where"
  ).split(" "),
);

/** Number of axes, as far as types and producers tell. */
function ndimOf(v: Value | null | undefined, seen = new Map<Value, number | null>()): number | null {
  if (!v) return null;
  if (v.type?.shape) return v.type.shape.length;
  const p = v.producer;
  if (p?.domain !== "") return null;
  const have = seen.get(v);
  if (have !== undefined || seen.size > 1000) return have ?? null;
  seen.set(v, null);
  const n = ndimBy(p, v, seen);
  seen.set(v, n);
  return n;
}

function ndimBy(p: Node, v: Value, seen: Map<Value, number | null>): number | null {
  if (p.opType === "Gemm" || p.opType === "Flatten") return 2;
  if (p.opType === "Reshape") return constantOf(p.inputs[1])?.shape[0] ?? null;
  if (p.opType === "Constant") return constantOf(v)?.shape.length ?? null;
  if (!ndimLike.has(p.opType)) return null;
  const [a, z] = p.opType === "Where" ? [p.inputs[1], p.inputs[2]] : p.inputs;
  const first = ndimOf(a, seen);
  if (!/^(Add|Div|Mul|Sub|Sum|Pow|MatMul|Where)$/.test(p.opType)) return first;
  const second = ndimOf(z, seen);
  return first === null || second === null ? null : Math.max(first, second);
}

/** Puts nodes behind the node's first output; what they end in takes its name and readers. */
function after(node: Node, make: (inner: Value) => Value): void {
  const out = node.outputs[0]!;
  const inner = node.graph.value(`${out.name}/inner`, null);
  node.outputs[0] = inner;
  inner.producer = node;
  const last = make(inner).producer!;
  last.outputs[0] = out;
  out.producer = last;
}

/** Before 7, the second operand was aligned at `axis` (default: the last ones) and only where `broadcast` said so. */
const broadcast: Rewrite = (node, b) => {
  const on = takeNumber(node, "broadcast");
  const axis = takeNumber(node, "axis");
  if (!on || axis === undefined) return;
  const [x, z] = node.inputs;
  const [n, m] = [ndimOf(x), ndimOf(z)];
  if (n === null || m === null) throw stuck(node, `broadcasts along axis ${axis} of an operand whose rank is not known`);
  const trailing = n - (axis < 0 ? axis + n : axis) - m;
  if (trailing > 0) node.setInput(1, unsqueeze(b, z!, m, trailing));
};

function unsqueeze(b: Build, v: Value, from: number, count: number): Value {
  const axes = Array.from({ length: count }, (_, i) => from + i);
  return b.opset >= 13 ? b.op("Unsqueeze", [v, b.i64(axes)]) : b.op("Unsqueeze", [v], { axes });
}

/** Before 13 the axes from `axis` (default 1) on were flattened; since then the op goes along one axis (default the last). */
const alongOneAxis: Rewrite = (node, b) => {
  const axis = takeNumber(node, "axis") ?? 1;
  const x = node.inputs[0]!;
  const ndim = ndimOf(x) ?? ndimOf(node.outputs[0]);
  node.attrs.set("axis", { type: "int", value: -1 });
  if (axis === -1 || (ndim !== null && axis === ndim - 1)) return;
  node.setInput(0, b.op("Flatten", [x], { axis }));
  after(node, (inner) => b.op("Reshape", [inner, b.op("Shape", [x])]));
};

/** What the opsets before 11 did, said with attributes that came then: asymmetric coordinates, rounded down going up and up going down. */
const resize11: Rewrite = (node, b) => {
  const scales = node.inputs[1];
  const values = constantOf(scales);
  if ((node.string("mode") ?? "nearest") === "nearest" && !node.attrs.has("nearest_mode")) {
    const s = values ? [...numbersOf(values)] : null;
    if (!s || (s.some((x) => x > 1) && s.some((x) => x < 1)))
      throw stuck(node, "rounds by its scales, which must be constant, and all up or all down, to be written for opset 11");
    node.attrs.set("nearest_mode", { type: "string", value: s.some((x) => x < 1) ? "ceil" : "floor" });
  }
  node.attrs.set("coordinate_transformation_mode", { type: "string", value: "asymmetric" });
  node.setInput(1, b.constant(tensor("float32", [0], [])));
  node.setInput(2, scales!);
};

const names: Readonly<Record<string, DType>> = { FLOAT: "float32", DOUBLE: "float64" };

export const rewrites: Readonly<Record<string, Rewrite>> = {
  "Add 7": broadcast,
  "Sub 7": broadcast,
  "Mul 7": broadcast,
  "Div 7": broadcast,
  "Pow 7": broadcast,
  "And 7": broadcast,
  "Or 7": broadcast,
  "Xor 7": broadcast,
  "Equal 7": broadcast,
  "Greater 7": broadcast,
  "Less 7": broadcast,
  "Gemm 7": drop("broadcast"),
  "GRU 7": drop("output_sequence"),
  "LSTM 7": drop("output_sequence"),
  "RNN 7": drop("output_sequence"),
  /** A slope of one axis was one for each channel. */
  "PRelu 7": (node, b) => {
    const [x, slope] = node.inputs;
    const n = ndimOf(x);
    const shape = slope?.shape;
    if (!shape) throw stuck(node, "has a slope whose shape is not known");
    if (shape.length !== 1 || shape[0] === 1 || n === 2) return;
    if (n === null) throw stuck(node, "has a slope by channel and an input whose rank is not known");
    node.setInput(1, unsqueeze(b, slope!, 1, n - 2));
  },
  "BatchNormalization 7": drop("is_test"),
  "BatchNormalization 9": (node) => {
    if (takeNumber(node, "spatial") === 0) throw stuck(node, "has statistics for each position (spatial 0), which opset 9 gave up");
  },
  "BatchNormalization 14": (node) => {
    if (node.outputs.slice(1).some((o) => o && o.uses.size > 0)) throw stuck(node, "has training outputs, which opset 14 redefined");
    for (const o of node.outputs.splice(1)) if (o) o.producer = null;
  },
  "Cast 6": (node) => {
    const to = node.string("to");
    const dtype = to && (names[to] ?? (to.toLowerCase() as DType));
    if (dtype && dtype in dtypes) node.attrs.set("to", { type: "int", value: dtypes[dtype].code });
    else if (to) throw stuck(node, `casts to "${to}", which is no element type`);
  },
  "Clip 11": (node, b) => {
    const dtype = floatType(node.inputs[0]);
    (["min", "max"] as const).forEach((name, i) => {
      const bound = takeNumber(node, name);
      if (bound !== undefined) node.setInput(i + 1, b.scalar(bound, dtype));
    });
  },
  "Concat 4": (node) => {
    if (!node.attrs.has("axis")) node.attrs.set("axis", { type: "int", value: 1 });
  },
  "DFT 20": (node, b) => {
    node.setInput(2, b.constant(tensor("int64", [], [takeNumber(node, "axis") ?? 1])));
  },
  "Dropout 7": drop("is_test"),
  "Dropout 10": (node) => {
    if (node.outputs[1]?.uses.size) throw stuck(node, "gives its mask, which was not of bools before opset 10");
  },
  "Dropout 12": (node, b) => {
    const ratio = takeNumber(node, "ratio");
    if (ratio !== undefined) node.setInput(1, b.f32(ratio));
  },
  "GlobalLpPool 2": integerP,
  "LpPool 2": integerP,
  "GridSample 20": (node) => {
    const mode = { bilinear: "linear", bicubic: "cubic" }[node.string("mode") ?? "bilinear"];
    if (mode) node.attrs.set("mode", { type: "string", value: mode });
  },
  /** Scale and bias had one entry for each group; now one for each channel. */
  "GroupNormalization 21": (node, b) => {
    const channels = node.inputs[0]?.type?.shape?.[1];
    if (typeof channels !== "number") throw stuck(node, "has an input whose number of channels is not known");
    const groups = node.int("num_groups")!;
    for (const i of [1, 2]) {
      const spread = b.expand(b.reshape(node.inputs[i]!, [groups, 1]), [groups, channels / groups]);
      node.setInput(i, b.reshape(spread, [channels]));
    }
  },
  "Softmax 13": alongOneAxis,
  "LogSoftmax 13": alongOneAxis,
  "Hardmax 13": alongOneAxis,
  "Pad 2": (node) => {
    const pads = take(node, "paddings");
    if (pads) node.attrs.set("pads", pads);
  },
  "Pad 11": (node, b) => {
    node.setInput(1, b.i64(takeInts(node, "pads") ?? []));
    const value = takeNumber(node, "value");
    if (value) node.setInput(2, b.scalar(value, floatType(node.inputs[0])));
  },
  ...Object.fromEntries(
    ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare"].map((r) => [`Reduce${r} 18`, intsToInput("axes", 1)]),
  ),
  "ReduceSum 13": intsToInput("axes", 1),
  "Reshape 5": intsToInput("shape", 1),
  "Resize 11": resize11,
  "Resize 13": (node) => {
    if (node.string("coordinate_transformation_mode") === "tf_half_pixel_for_nn")
      throw stuck(node, "maps coordinates by tf_half_pixel_for_nn, which opset 13 gave up");
  },
  /** Of scales and sizes only one may be given; the other used to be empty. */
  "Resize 18": (node) => {
    if (node.inputs[3] && constantOf(node.inputs[2])?.shape[0] === 0) node.setInput(2, null);
  },
  "RoiAlign 16": (node) => {
    node.attrs.set("coordinate_transformation_mode", { type: "string", value: "output_half_pixel" });
  },
  "Scatter 11": (node) => {
    node.opType = "ScatterElements";
  },
  "Selu 6": (node) => {
    if (!node.attrs.has("alpha")) node.attrs.set("alpha", { type: "float", value: 1.6732 });
    if (!node.attrs.has("gamma")) node.attrs.set("gamma", { type: "float", value: 1.0507 });
  },
  "Slice 10": (node, b) => {
    const starts = takeInts(node, "starts");
    const ends = takeInts(node, "ends");
    const axes = takeInts(node, "axes");
    node.setInput(1, b.i64(starts ?? []));
    node.setInput(2, b.i64(ends ?? []));
    if (axes) node.setInput(3, b.i64(axes));
  },
  "Split 2": (node) => {
    if (!node.inputs[1]) return;
    const sizes = constantOf(node.inputs[1]);
    if (!sizes) throw stuck(node, "has computed sizes, which opset 2 did not take");
    node.truncateInputs(1);
    node.attrs.set("split", { type: "ints", value: integersOf(sizes) });
  },
  "Split 13": intsToInput("split", 1),
  "Split 18": (node) => {
    if (!node.inputs[1]) node.attrs.set("num_outputs", { type: "int", value: node.outputs.length });
  },
  "Squeeze 13": intsToInput("axes", 1),
  "Unsqueeze 13": intsToInput("axes", 1),
  "TopK 10": (node, b) => {
    node.setInput(1, b.i64([takeNumber(node, "k") ?? 1]));
  },
  "Upsample 7": (node) => {
    const [width, height] = [takeNumber(node, "width_scale"), takeNumber(node, "height_scale")];
    if (width !== undefined && height !== undefined) node.attrs.set("scales", floats([1, 1, height, width]));
  },
  "Upsample 9": (node, b) => {
    const scales = take(node, "scales");
    if (scales?.type !== "floats") throw stuck(node, "has no scales");
    node.setInput(1, b.constant(tensor("float32", [scales.value.length], scales.value)));
  },
  "Upsample 10": (node, b) => {
    if (node.string("mode") === "bilinear") node.attrs.set("mode", { type: "string", value: "linear" });
    // It only ever goes up: what Resize 11 needs to be told, and 10 does not have.
    if ((node.string("mode") ?? "nearest") === "nearest" && b.opset > 10)
      node.attrs.set("nearest_mode", { type: "string", value: "floor" });
    node.opType = "Resize";
  },
};

function integerP(node: Node): void {
  const p = takeNumber(node, "p");
  if (p !== undefined) node.attrs.set("p", { type: "int", value: Math.round(p) });
}
