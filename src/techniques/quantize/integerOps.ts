/** 8-bit weights spelled as ONNX Runtime's dynamic quantizer spells them: the operators and names that loaders of such files know. */
import { choice, flag, number, text, type ValuesOf } from "../../data/params.ts";
import { type Graph, type Model, type Node, produce, type Value } from "../../ir/graph.ts";
import { matcher, namesOf } from "../../ir/select.ts";
import { allNodes, labelOf } from "../../ir/walk.ts";
import { floatsOf, type Tensor, tensor, wrap } from "../../tensor/tensor.ts";
import { foldValues, liftConstants } from "../../transform/fold.ts";
import { upgrade } from "../../transform/upgrade.ts";
import { raiseIrVersion } from "../../transform/weights.ts";
import { leave } from "../left.ts";
import { type Context, defineTechnique } from "../technique.ts";
import { type CodesOptions, codesOf } from "./codes.ts";
import { type Coded, contribNode } from "./contrib.ts";
import { plainGemm } from "./gemm.ts";
import { inputOf, type Layer, layersOf, outputOf, weightKey, weightOf } from "./layers.ts";
import { recurrentWeights } from "./recurrent.ts";
import { dropFloats, readInitializers } from "./store.ts";

const params = {
  weights: choice(["int8", "uint8"], {
    doc: "int8: symmetric, the faster one; uint8: with a zero point, for runtimes without int8 kernels",
  }),
  granularity: choice(["tensor", "channel"], { doc: "one weight scale for the tensor, or one for each output channel" }),
  reduceRange: flag(false, { doc: "7-bit weights, for CPUs with AVX2 but without VNNI, whose 16-bit sums overflow" }),
  conv: choice(["stored", "integer", "float"], {
    doc: "Convs: 8-bit weights made float when they are used; ConvInteger, several times slower; or left alone",
  }),
  embeddings: flag(true, { doc: "the tables that Gather reads, too; one that a layer shares is stored once" }),
  include: text("*", { doc: "only these nodes (globs on node and weight names, op:Type)" }),
  exclude: text("", { doc: "not these nodes" }),
  maxError: number(0.2, { min: 0, doc: "a weight that would change by more stays float: ‖W − Ŵ‖/‖W‖" }),
} as const;

type Values = ValuesOf<typeof params>;

export const integerOps = defineTechnique({
  technique: "integerOps",
  family: "quantize",
  doc: "Stores weights in 8 bits and computes MatMul and Gemm in integers, with the operators and names of ONNX Runtime's dynamic quantizer.",
  paper: "ONNX Runtime, quantization in IntegerOps mode; Jacob et al. 2018",
  params,
  neutral: { exclude: "*" },
  apply,
});

/** A weight in 8 bits. */
interface Stored {
  readonly codes: Value;
  readonly scale: Value;
  readonly zeroPoint: Value;
  readonly error: number;
  /** Codes of a table that layers read transposed: [columns, rows] of what they see. */
  readonly turned: boolean;
}

async function apply(model: Model, p: Values, context: Context): Promise<void> {
  liftConstants(model);
  const selected = { include: p.include, ...(p.exclude ? { exclude: p.exclude } : {}) };
  const { layers, left } = layersOf(model, selected);
  const tables = p.embeddings ? tablesOf(model, p) : new Map<Value, Node[]>();
  const wanted = layers.filter((l) => l.op !== "Conv" || p.conv !== "float");
  for (const l of layers) if (l.op === "Conv" && p.conv === "float") leave(left, "conv=float", l.node);
  const chosen = selection(p);
  const contrib = [...allNodes(model.graph)].filter((n) => /^(Attention|LSTM|EmbedLayerNormalization)$/.test(n.opType) && chosen(n));
  if (wanted.length + tables.size + contrib.length === 0)
    return context.note("no weights to quantize among the nodes selected; nothing was changed");
  const opset = model.opsets.get("") ?? 1;
  const needed = wanted.some((l) => l.op === "Conv") && p.conv === "stored" ? 13 : 11;
  if (opset < needed) upgrade(model, needed);
  raiseIrVersion(model, 4);
  if (contrib.length && !model.opsets.has("com.microsoft")) model.opsets.set("com.microsoft", 1);
  // Exporters reorder the gates at run time, in front of their LSTM.
  if (contrib.some((n) => n.opType === "LSTM")) await foldValues(model, recurrentWeights(model), { threads: context.threads });
  const before = readInitializers(model);
  const store = storing(p);
  const done: Layer[] = [];
  const inputs = new Map<Graph, Map<Value, Node>>();
  const again = layersOf(model, selected).layers;
  const ties = new Set(again.filter((l) => tables.has(l.weight) && sameTransposed(l)).map((l) => l.weight));
  for (const l of again) {
    if (l.op === "Conv" && p.conv === "float") continue;
    plainGemm(l, Math.max(opset, needed));
    const w = ties.has(l.weight) && sameTransposed(l) ? store.table(l.weight, true) : store.layer(l);
    if (w.error > p.maxError) {
      leave(left, `8 bits would change its weight by ${percent(w.error)} (more than ${percent(p.maxError)})`, l.node);
      continue;
    }
    if (l.op === "Conv" && p.conv === "stored") storedConv(l, w);
    else integerLayer(l, w, quantizedInput(inputs, l.node.graph, inputOf(l)));
    done.push(l);
  }
  let gathers = 0;
  for (const [table, nodes] of tables) {
    const w = store.table(table, ties.has(table));
    if (w.error > p.maxError) {
      for (const n of nodes) leave(left, `8 bits would change its table by ${percent(w.error)} (more than ${percent(p.maxError)})`, n);
      continue;
    }
    for (const n of nodes) embedding(n, w);
    gathers += nodes.length;
  }
  const whole = { ...p, input: (graph: Graph, x: Value) => quantizedInput(inputs, graph, x), have: new Map<Value, Coded>() };
  let others = 0;
  for (const n of contrib) {
    const why = contribNode(n, whole);
    if (why) leave(left, why, n);
    else others++;
  }
  // Weights that nothing came to read, because their layers stay float.
  for (const w of [...store.all(), ...whole.have.values()])
    for (const v of [w.codes, w.scale, w.zeroPoint]) if (v.uses.size === 0) v.graph.removeInitializer(v);
  dropFloats(done, before, context.note);
  context.note(
    `${done.length} of ${layers.length} layers and ${gathers} embeddings in 8 bits${others ? `, and ${others} whole layers (Attention, LSTM, EmbedLayerNormalization)` : ""}`,
  );
  for (const [why, names] of left) context.note(`stay float: ${names.slice(0, 5).join(", ")}${names.length > 5 ? " …" : ""}: ${why}`);
}

function selection(p: Values): (n: Node) => boolean {
  const include = matcher(p.include);
  const exclude = p.exclude ? matcher(p.exclude) : () => false;
  return (n) => include(namesOf(n), n.opType) && !exclude(namesOf(n), n.opType);
}

/** Float tables with rows, and the Gather nodes that take rows of them. */
function tablesOf(model: Model, p: Values): Map<Value, Node[]> {
  const chosen = selection(p);
  const tables = new Map<Value, Node[]>();
  for (const n of allNodes(model.graph)) {
    const table = n.opType === "Gather" && n.domain === "" ? n.inputs[0] : null;
    if (table?.data?.dtype !== "float32" || table.data.shape.length !== 2 || table.data.data.byteLength < 1024) continue;
    const axis = n.int("axis") ?? 0;
    if ((axis !== 0 && axis !== -2) || !chosen(n)) continue;
    tables.set(table, [...(tables.get(table) ?? []), n]);
  }
  return tables;
}

/** Quantizes weights, each once: a layer's as the layer sees it, or as it is stored where a Gather reads it too. */
function storing(p: Values) {
  const have = new Map<string, Stored>();
  const add = (key: string, owner: Value, name: string, t: Tensor, how: Omit<CodesOptions, "dtype">, turned: boolean) => {
    const known = have.get(key);
    if (known) return known;
    const c = codesOf(floatsOf(t), t.shape, { ...how, dtype: p.weights });
    const dims = how.axis === null ? [] : [c.scales.length];
    const stored: Stored = {
      codes: owner.graph.initializer(`${name}_quantized`, wrap(p.weights, t.shape, c.codes)),
      scale: owner.graph.initializer(`${name}_scale`, tensor("float32", dims, c.scales)),
      // All zero points are one where they are centred: one for all serves every kernel.
      zeroPoint: owner.graph.initializer(
        `${name}_zero_point`,
        how.centred ? wrap(p.weights, [], c.zeroPoints.slice(0, 1)) : wrap(p.weights, dims, c.zeroPoints),
      ),
      error: c.error,
      turned,
    };
    have.set(key, stored);
    return stored;
  };
  return {
    all: () => have.values(),
    /** `shared`: a scale for each row, for layers that see the table transposed. */
    table(value: Value, shared: boolean): Stored {
      const byRow = shared && p.granularity === "channel";
      // Only sums of products in integers overflow, not what is made float at once.
      const how = { axis: byRow ? 0 : null, centred: byRow, reduceRange: shared && p.reduceRange };
      return add(`${value.graph.name}|${value.name}`, value, value.name, value.data!, how, true);
    },
    layer(l: Layer): Stored {
      const conv = l.op === "Conv";
      const perChannel = p.granularity === "channel" || (conv && p.conv === "stored");
      const name = l.use.through.length ? `${l.weight.name}_seen` : l.weight.name;
      const how = {
        axis: perChannel ? l.axis : null,
        // ConvInteger takes one zero point; MatMulInteger one for each column.
        centred: conv && p.conv === "integer",
        reduceRange: p.reduceRange && !(conv && p.conv === "stored"),
      };
      return add(weightKey(l), l.weight, name, weightOf(l), how, false);
    },
  };
}

/** Whether a layer sees the stored table itself, transposed. */
function sameTransposed(l: Layer): boolean {
  const turns = l.use.through.every((n) => n.opType === "Transpose" || n.opType === "Identity");
  const odd = l.use.through.filter((n) => n.opType === "Transpose").length + (l.op === "Gemm" && l.node.int("transB") ? 1 : 0);
  return l.op !== "Conv" && turns && odd % 2 === 1 && (l.node.float("alpha") ?? 1) === 1;
}

/** uint8 codes, scale and zero point of a value, taken once in each graph that reads them. */
function quantizedInput(have: Map<Graph, Map<Value, Node>>, graph: Graph, x: Value): Node {
  let here = have.get(graph);
  if (!here) have.set(graph, (here = new Map()));
  let node = here.get(x);
  if (!node)
    here.set(
      x,
      (node = graph.append("DynamicQuantizeLinear", [x], {
        name: `${x.name}_QuantizeLinear`,
        outputs: [`${x.name}_quantized`, `${x.name}_scale`, `${x.name}_zero_point`],
      })),
    );
  return node;
}

/** y = float(MatMulInteger(x, W)) · (sx·sw), and the bias of a Gemm; the last node gets the layer's name and output. */
function integerLayer(l: Layer, w: Stored, x: Node): void {
  const { node } = l;
  const { graph } = node;
  const [q, s, z] = x.outputs as [Value, Value, Value];
  const label = labelOf(node);
  const out = outputOf(l);
  const conv = l.op === "Conv";
  const [name, quantized] = [`${label}_quant`, `${out.name}_output_quantized`];
  // A tied table is stored by rows; the runtime turns it once, on loading.
  const codes = w.turned ? graph.append("Transpose", [w.codes], { name: `${label}_turned`, attrs: { perm: [1, 0] } }).outputs[0]! : w.codes;
  const attrs = conv ? Object.fromEntries(node.attrs) : {};
  const product = graph.append(conv ? "ConvInteger" : "MatMulInteger", [q, codes, z, w.zeroPoint], { name, attrs, outputs: [quantized] });
  const cast = graph.append("Cast", [product.outputs[0]!], {
    name: `${quantized}_cast`,
    attrs: { to: 1 },
    outputs: [`${quantized}_cast_output`],
  });
  const spread = conv && w.scale.data!.shape.length ? spreadOver(graph, w.scale, l) : w.scale;
  const scales = graph.append("Mul", [s, spread], { name: `${name}_scales_mul`, outputs: [`${name}_scales_mul:0`] });
  const y = graph.append("Mul", [cast.outputs[0]!, scales.outputs[0]!], { name: `${name}_output_scale_mul` });
  const c = l.op === "MatMul" ? null : (node.inputs[2] ?? null);
  const last = c ? graph.append("Add", [y.outputs[0]!, biasOf(l, c)], { name: `${name}_bias_add` }) : y;
  produce(last, out);
  graph.remove(node);
}

/** Values over the spatial axes of a Conv's output: [channels, 1, …]. */
function spreadOver(graph: Graph, v: Value, l: Layer): Value {
  const values = floatsOf(v.data!);
  return graph.initializer(
    `${v.name}_spread`,
    tensor(
      "float32",
      [
        values.length,
        ...weightOf(l)
          .shape.slice(2)
          .map(() => 1),
      ],
      values,
    ),
  );
}

/** What is added to the product: a Gemm's constant C (beta applied), a Conv's bias over its spatial axes. */
function biasOf(l: Layer, c: Value): Value {
  const { graph } = l.node;
  if (l.op === "Conv") {
    const dims = [
      l.channels,
      ...weightOf(l)
        .shape.slice(2)
        .map(() => 1),
    ];
    return graph.initializer(`${c.name}_reshape`, tensor("float32", dims, l.bias!));
  }
  const plain = (l.node.float("beta") ?? 1) === 1;
  return plain ? c : graph.initializer(`${c.name}_scaled`, tensor("float32", [l.channels], l.bias!));
}

/** A Conv stays in float; its weights are stored in 8 bits, per channel. */
function storedConv(l: Layer, w: Stored): void {
  const { node } = l;
  const name = `${w.codes.name.replace(/_quantized$/, "")}_DequantizeLinear`;
  const known = [...w.codes.uses].flatMap((u) => ("node" in u && u.node.graph === node.graph ? [u.node] : []))[0];
  const dequantize =
    known ??
    node.graph.append("DequantizeLinear", [w.codes, w.scale, w.zeroPoint], { name, attrs: { axis: 0 }, outputs: [`${name}_Output`] });
  node.setInput(1, dequantize.outputs[0]!);
}

/** Rows of codes, made float afterwards; a scale for each row is gathered along. */
function embedding(node: Node, w: Stored): void {
  const { graph } = node;
  const out = node.outputs[0]!;
  const label = labelOf(node);
  const gather = (table: Value, name: string, output: string) =>
    graph.append("Gather", [table, node.inputs[1]!], { name, attrs: { axis: 0 }, outputs: [output] }).outputs[0]!;
  const rows = gather(w.codes, `${label}_quant`, `${out.name}_quantized`);
  const byRow = w.scale.data!.shape.length > 0;
  const scale = byRow ? graph.initializer(`${label}_unit`, tensor("float32", [], [1])) : w.scale;
  const floats = graph.append("DequantizeLinear", [rows, scale, w.zeroPoint], { name: `${out.name}_DequantizeLinear` });
  if (!byRow) produce(floats, out);
  else {
    const column = graph.initializer(`${label}_column`, tensor("int64", [2], [-1, 1]));
    const scales = graph.append("Reshape", [w.scale, column], { name: `${label}_scales` }).outputs[0]!;
    const each = gather(scales, `${label}_scale`, `${out.name}_scale`);
    produce(graph.append("Mul", [floats.outputs[0]!, each], { name: `${out.name}_scale_mul` }), out);
  }
  graph.remove(node);
}

const percent = (x: number) => `${Number((100 * x).toPrecision(2))} %`;
