/** The file that quantization-aware training leaves: its quantizers as QuantizeLinear and DequantizeLinear, its weights as integers. */
import { cloneModel, type Model, type Value } from "../../ir/graph.ts";
import { find, removeDead } from "../../ir/walk.ts";
import { Build } from "../../ops/build.ts";
import { open } from "../../runtime/session.ts";
import { type DType, roundEven, sizeOf } from "../../tensor/dtype.ts";
import { floatsOf, scalar, tensor } from "../../tensor/tensor.ts";
import type { Fakes, FakeWeight } from "./fakes.ts";
import { replace, type Step } from "./lsq.ts";

/** The narrowest type that holds codes of so many bits. */
export function storedIn(bits: number, packed: boolean): "int8" | "int4" | "int2" {
  if (!packed || bits > 4) return "int8";
  return bits > 2 ? "int4" : "int2";
}

/** The opset that such a tensor needs. */
export const opsetFor: Readonly<Record<ReturnType<typeof storedIn>, number>> = { int8: 13, int4: 21, int2: 25 };

/** The scales as the training graph computes them, by the same engine. */
async function scalesOf(model: Model, steps: ReadonlySet<Step>, threads: number): Promise<Map<Step, Float32Array>> {
  const probe = cloneModel(model);
  const b = Build.of(probe, "scales");
  const outputs = new Map([...steps].map((s) => [s, b.op("Identity", [find(probe.graph, s.value.name)!])]));
  probe.graph.setOutputs([...outputs.values()]);
  removeDead(probe.graph);
  probe.graph.inputs.length = 0;
  const session = await open(probe, { threads, training: true });
  try {
    const got = await session.run({});
    return new Map([...outputs].map(([s, v]) => [s, floatsOf(got[v.name]!).slice()]));
  } finally {
    await session.release();
  }
}

/** Integer codes of a weight: clamp(round(w/s)), in float32 as the graph computed them. */
function codesOf({ master, step, layers }: FakeWeight, scales: Float32Array): Int8Array {
  const t = master.data!;
  const w = floatsOf(t);
  const { axis } = layers[0]!;
  const inner = scales.length === 1 ? w.length : sizeOf(t.shape.slice(axis + 1));
  const { low, high } = step.span;
  return Int8Array.from(w, (x, i) => {
    const s = scales[Math.floor(i / inner) % scales.length]!;
    return roundEven(Math.min(high, Math.max(low, Math.fround(x / s)))) + 0;
  });
}

/** Puts the shipped nodes in the place of the trained ones. */
export async function ship(model: Model, fakes: Fakes, o: { packed: boolean; integers: boolean; threads: number }): Promise<void> {
  const b = Build.of(model, "qat");
  const { graph } = model;
  const scales = await scalesOf(model, new Set([...fakes.inputs, ...fakes.weights].map((f) => f.step)), o.threads);
  for (const { step, bits, from, to } of fakes.inputs) {
    const name = to.name;
    const scale = b.constant(scalar("float32", scales.get(step)![0]!), `${name}/scale`);
    const zero = b.constant(scalar("uint8", 0 - step.span.low), `${name}/zero`);
    let codes = graph.append("QuantizeLinear", [from, scale, zero], { name: `${name}/quantize` }).outputs[0]!;
    // On the codes and not before them: so the runtime still sees a QuantizeLinear behind each layer, and computes it in integers.
    if (bits < 8) codes = graph.append("Clip", [codes, null, b.scalar(2 ** bits - 1, "uint8")], { name: `${name}/clip` }).outputs[0]!;
    replace(to, graph.append("DequantizeLinear", [codes, scale, zero], { name: `${name}/dequantize` }));
  }
  for (const { master, to, input, weight } of fakes.biases) {
    const products = scales.get(weight.step)!.map((s) => Math.fround(scales.get(input)![0]! * s));
    const codes = Int32Array.from(floatsOf(master.data!), (x, c) => {
      const q = roundEven(Math.fround(x / products[products.length === 1 ? 0 : c]!));
      return Math.min(2 ** 31 - 1, Math.max(-(2 ** 31), q));
    });
    const stored = graph.initializer(`${master.name}/int32`, tensor("int32", [codes.length], codes));
    replace(to, dequantize(b, stored, products, 0, `${master.name}/dequantize`));
  }
  for (const weight of fakes.weights) {
    const { master, bits, to, layers } = weight;
    const name = master.name.replace(/\/master$/, "");
    const s = scales.get(weight.step)!;
    const dtype = storedIn(bits, o.packed);
    let codes = graph.initializer(`${name}/${dtype}`, tensor(dtype, master.data!.shape, codesOf(weight, s)));
    // As 8 bits where integer kernels read them: the runtime does the Cast once, when it opens the file. And of 2 bits always: it fuses
    // their DequantizeLinear and MatMul wrongly where the outputs are no multiple of four (1.30).
    const cast = dtype === "int2" || (o.integers && dtype !== "int8");
    if (cast) codes = b.cast(codes, "int8");
    replace(to, dequantize(b, codes, s, layers[0]!.axis, `${name}/dequantize`, cast || o.integers ? "int8" : undefined));
  }
}

function dequantize(b: Build, codes: Value, scales: Float32Array, axis: number, name: string, zero?: DType) {
  const one = scales.length === 1;
  const shape = one ? [] : [scales.length];
  const inputs = [codes, b.constant(tensor("float32", shape, scales), `${name}/scale`)];
  if (zero) inputs.push(b.constant(tensor(zero, shape, new Array<number>(scales.length).fill(0)), "zero"));
  return b.graph.append("DequantizeLinear", inputs, { name, attrs: one ? {} : { axis } });
}
