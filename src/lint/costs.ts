/** What runs, but slower or with other numbers than one would think, on a measured runtime. */
import type { Model, Node, Value } from "../ir/graph.ts";
import { allNodes, constantOf, labelOf, stored } from "../ir/walk.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { numbersOf } from "../tensor/tensor.ts";
import type { Finding } from "./finding.ts";
import type { Measured } from "./runtime.ts";
import type { Types } from "./types.ts";

/** How much slower is worth a warning. */
const worth = 1.3;
/** Weights of so many elements are looked through for wide codes at most. */
const looked = 1 << 22;

const times = (x: number) => `${+x.toPrecision(2)} times`;

/** The DequantizeLinear whose codes a value stands for, or null. */
function dequantizer(v: Value | null | undefined): Node | null {
  const p = v?.producer;
  return p?.opType === "DequantizeLinear" ? p : null;
}

/** Every rule looks at the whole model; each finding lists its nodes. */
export function costFindings(model: Model, types: Types, m: Measured): Finding[] {
  const nodes = [...allNodes(model.graph)];
  const basis = `measured, ${m.runtime} on ${m.machine}`;
  const out: Finding[] = [];
  const say = (level: Finding["level"], what: string, about: readonly Node[], on = basis) => {
    if (about.length) out.push({ level, what, nodes: about.map(labelOf), basis: on });
  };
  const time = (name: string) => m.facts[`time/${name}`] ?? 1;
  const ops = (type: string) => nodes.filter((n) => n.opType === type);
  const quantizedConvs = nodes.filter((n) => n.opType === "QLinearConv" || (n.opType === "Conv" && dequantizer(n.inputs[0])));
  const codes = (n: Node) => types(n.opType === "QLinearConv" ? n.inputs[0] : dequantizer(n.inputs[0])?.inputs[0]);

  const dynamic = time("dynamic Conv / float32 Conv");
  if (dynamic > worth)
    say(
      "warning",
      `a dynamically quantized Conv (ConvInteger) takes ${times(dynamic)} as long as a float32 one; static int8 is faster`,
      ops("ConvInteger"),
    );

  const signed = time("int8 Conv / uint8 Conv");
  if (signed > worth)
    say(
      "warning",
      `int8 activations take ${times(signed)} as long as uint8 ones`,
      quantizedConvs.filter((n) => codes(n) === "int8"),
    );

  const deep = time("uint8 depthwise Conv / float32 depthwise Conv");
  if (deep > worth) {
    const depthwise = quantizedConvs.filter((n) => {
      const w = (n.opType === "QLinearConv" ? n.inputs[3] : (dequantizer(n.inputs[1])?.inputs[0] ?? n.inputs[1]))?.type?.shape;
      return (n.int("group") ?? 1) > 1 && w?.[1] === 1;
    });
    say("warning", `a quantized depthwise Conv takes ${times(deep)} as long as a float32 one (14×14, 96 channels)`, depthwise);
  }

  const products = ops("MatMulNBits");
  const one = time("4-bit MatMulNBits of 1 rows / float32 MatMul");
  const many = time("4-bit MatMulNBits of 32 rows / float32 MatMul");
  if (one > worth || many > worth)
    say(
      "warning",
      `MatMulNBits takes ${times(one)} as long as a float32 MatMul for one row, ${times(many)} for 32 (512×512, 4 bits)`,
      products,
    );
  else {
    const level = one / time("4-bit MatMulNBits of 1 rows at level 4 / float32 MatMul");
    if (level > worth)
      say(
        "note",
        `MatMulNBits without accuracy_level sums in float32; accuracy_level 4 takes 1/${+level.toPrecision(2)} of the time for one row, and is some tenths of a percent off`,
        products.filter((n) => !n.int("accuracy_level")),
      );
  }

  const blocked = nodes.filter((n) => n.opType === "MatMul" && (dequantizer(n.inputs[1])?.int("block_size") ?? 0) > 0);
  const off = Math.max(0, ...blocked.map((n) => m.facts[`blocked/${types(dequantizer(n.inputs[1])?.inputs[0]) ?? ""}`] ?? 0));
  if (off > 1e-4)
    say(
      "warning",
      `DequantizeLinear in blocks and MatMul become one product that sums in 8 bits here (relative error ${off.toPrecision(2)}), elsewhere not; for the numbers of other runtimes open the session with qdq_matmulnbits_accuracy_level "0" (extra: { session: { qdq_matmulnbits_accuracy_level: "0" } })`,
      blocked,
    );

  say(
    "note",
    "uint8 × int8 weights above 64: processors with AVX2 but without VNNI cut sums of two such products at 16 bits; int8's reduceRange=true keeps clear of it",
    wideProducts(nodes, types),
    m.facts.saturates ? basis : "onnxruntime, docs/performance/model-optimizations/quantization",
  );

  const doubles = nodes.filter((n) => types(n.outputs[0]) === "float64" && !constantOf(n.outputs[0]));
  say("warning", "computes in float64, at half the speed of float32 or less", doubles, "the file");
  const long = [...stored(model.graph)].filter((s) => s.tensor.dtype === "int64" && s.tensor.data.byteLength > 65_536);
  const longBytes = long.reduce((n, s) => n + s.tensor.data.byteLength, 0);
  if (long.length)
    out.push({
      level: "warning",
      what: `${long.length} tensors of 64-bit integers take ${(longBytes / 1e6).toFixed(1)} MB; int32 holds as much of what models store in half`,
      nodes: long.map((s) => s.name),
      basis: "the file",
    });
  return out;
}

/** Nodes that multiply uint8 activations with int8 codes beyond ±64, two of which may not fit 16 bits: 2·255·65 > 32767. */
function wideProducts(nodes: readonly Node[], types: Types): Node[] {
  const wide = (v: Value | null | undefined) => {
    const t = constantOf(v);
    return t?.dtype === "int8" && sizeOf(t.shape) <= looked && numbersOf(t).some((c) => c > 64 || c < -64);
  };
  return nodes.filter((n) => {
    if (/^(MatMulInteger|ConvInteger|MatMulIntegerToFloat)$/.test(n.opType)) return types(n.inputs[0]) === "uint8" && wide(n.inputs[1]);
    if (/^QLinear(Conv|MatMul)$/.test(n.opType)) return types(n.inputs[0]) === "uint8" && wide(n.inputs[3]);
    if (!/^(Conv|MatMul|Gemm)$/.test(n.opType)) return false;
    const [x, w] = [dequantizer(n.inputs[0]), dequantizer(n.inputs[1])];
    return !!x && types(x.inputs[0]) === "uint8" && wide(w?.inputs[0]);
  });
}
