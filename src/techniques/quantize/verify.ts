/** A converted model beside the one it came from, on data: how far each output moved, and which node is to blame for what is not a number. */
import type { Dataset } from "../../data/dataset.ts";
import type { Model } from "../../ir/graph.ts";
import { allNodes, labelOf, sorted } from "../../ir/walk.ts";
import { predict } from "../../measure/predict.ts";
import { dtypes } from "../../tensor/dtype.ts";
import { Fault } from "../../tensor/fault.ts";
import { floatsOf } from "../../tensor/tensor.ts";
import type { Context } from "../technique.ts";
import { scan } from "./overflow.ts";

interface Difference {
  wrong: number;
  all: number;
  strange: number;
}

/**
 * Notes the relative error of every output, and names the first node that gives infinities or NaN where the original gave numbers. A
 * CPU shows few of those: ONNX Runtime takes casts out between nodes that it computes in float32 there, and infinities with them.
 */
export async function verify(before: Model, after: Model, data: Dataset, context: Context): Promise<void> {
  let outputs: Map<string, Difference>;
  try {
    outputs = await differences(before, after, data, context.threads);
  } catch (e) {
    if (!(e instanceof Fault)) throw e;
    context.note(`not verified, for this runtime does not run it: ${e.message}`);
    return;
  }
  const errors = [...outputs].map(([name, d]) => `${name} ${percent(d.all > 0 ? Math.sqrt(d.wrong / d.all) : d.wrong > 0 ? Infinity : 0)}`);
  context.note(`relative error of the outputs on ${data.length} examples: ${errors.join(", ")}`);
  const strange = [...outputs].filter(([, d]) => d.strange > 0);
  if (strange.length === 0) return;
  const what = strange.map(([name, d]) => `"${name}" holds ${d.strange} infinities or NaN where the original has numbers`).join("; ");
  context.note(`${what}; ${await culprit(before, after, data, context.threads)}`);
}

/** By output: Σ(a − b)², Σa², and how many elements are finite in the original alone. */
async function differences(before: Model, after: Model, data: Dataset, threads: number): Promise<Map<string, Difference>> {
  const out = new Map<string, Difference>();
  const left = predict(before, data, { threads, batchSize: 8 });
  const right = predict(after, data, { threads, batchSize: 8 });
  try {
    for (;;) {
      const [a, b] = [await left.next(), await right.next()];
      if (a.done || b.done) break;
      a.value.outputs.forEach((t, i) => {
        if (t.strings || dtypes[t.dtype].kind === "c") return;
        const name = a.value.names[i]!;
        const [x, y] = [floatsOf(t), floatsOf(b.value.outputs[i]!)];
        let d = out.get(name);
        if (!d) out.set(name, (d = { wrong: 0, all: 0, strange: 0 }));
        for (let k = 0; k < x.length; k++) {
          const [p, q] = [x[k]!, y[k]!];
          if (p - p !== 0) continue;
          if (q - q !== 0) {
            d.strange++;
            continue;
          }
          d.wrong += (p - q) ** 2;
          d.all += p * p;
        }
      });
    }
  } finally {
    await left.return(undefined);
    await right.return(undefined);
  }
  return out;
}

/** The first node, in order of computation, that gives something infinite or NaN where the original gives numbers. */
async function culprit(before: Model, after: Model, data: Dataset, threads: number): Promise<string> {
  const [was, is] = [await scan(before, data, "strange", { threads }), await scan(after, data, "strange", { threads })];
  for (const n of [...sorted(after.graph), ...allNodes(after.graph)]) {
    for (const v of n.outputs) {
      if (!v || (is.values.get(v.name) ?? 0) <= (was.values.get(v.name) ?? 0)) continue;
      const largest = (await scan(before, data, "largest", { threads })).values.get(v.name);
      const range = largest === undefined ? "" : `, where float32 goes up to ${Number(largest.toPrecision(3))}`;
      return `the first to give one is ${n.opType} "${labelOf(n)}"${range}`;
    }
  }
  return "none of the values that can be watched is the first";
}

const percent = (x: number) => `${Number((100 * x).toPrecision(2))} %`;
