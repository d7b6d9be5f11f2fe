/**
 * Which ops ONNX Runtime takes in 16-bit floats: each alone in a model, in float32 and in float16, on the same numbers.
 * npx tsx --conditions=source scripts/halfops.ts
 */
import { engine } from "../src/runtime/session.ts";
import { noHalf } from "../src/techniques/quantize/halfops.ts";
import { difference, modelOf, Refused, samples } from "../test/half/samples.ts";

async function probe(): Promise<void> {
  console.log(engine);
  for (const [name, sample] of Object.entries(samples)) {
    const { model } = modelOf(name, "float32");
    const [node] = model.graph.nodes;
    const table = noHalf(node!, sample.opset ?? 21) === null ? "yes" : "no";
    let found: string;
    try {
      const d = await difference(name);
      found = sample.random ? "runs" : `runs, ${d.toExponential(1)} off`;
    } catch (e) {
      found = `refused: ${(e as Error).message}`;
    }
    console.log(`${name.padEnd(48)} table ${table.padEnd(4)} ${found}`);
  }
}

/** The same nodes in older opsets, where float32 runs in that form: what float16 does not. */
async function older(): Promise<void> {
  for (const opset of [7, 8, 9, 10, 11, 12, 13, 15, 17, 18, 20]) {
    let [taken, refused] = [0, 0];
    for (const name of Object.keys(samples)) {
      const [node] = modelOf(name, "float32", opset).model.graph.nodes;
      if (noHalf(node!, opset) !== null) continue;
      try {
        await difference(name, opset);
        taken++;
      } catch (e) {
        if (!(e instanceof Refused)) continue;
        refused++;
        console.log(`opset ${opset}: ${name}: ${e.message}`);
      }
    }
    console.log(`opset ${opset}: ${taken} ops taken, ${refused} refused`);
  }
}

await probe();
await older();
