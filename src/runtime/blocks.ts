/** The channel block of ONNX Runtime's own NCHWc kernels on this machine. */
import * as ort from "#runtime";
import { newModel } from "../ir/graph.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { tensor } from "../tensor/tensor.ts";
import { open } from "./session.ts";

/** The domain of the kernels; its ops are written by hand only into graphs that run here and now. */
export const blockedDomain = "com.microsoft.nchwc";

let known: Promise<number | null> | undefined;

/**
 * How many channels lie together in a blocked tensor: 16 with AVX-512, 8 with AVX; null where the runtime has no such kernels (in a
 * browser, on other processors). Found by padding four channels to a whole block.
 */
export function channelBlock(): Promise<number | null> {
  known ??= ort.backend === "web" ? Promise.resolve(null) : probe();
  return known;
}

async function probe(): Promise<number | null> {
  const model = newModel("blocks");
  model.opsets.set(blockedDomain, 1);
  const x = model.graph.input("x", "float32", [1, 4, 1, 1]);
  const y = model.graph.append("ReorderInput", [x], { domain: blockedDomain }).outputs[0]!;
  model.graph.addOutput(y);
  try {
    const session = await open(model, { threads: 1 });
    const out = await session.run({ x: tensor("float32", [1, 4, 1, 1], [1, 2, 3, 4]) });
    await session.release();
    const block = sizeOf(out[y.name]!.shape);
    return block > 4 ? block : null;
  } catch {
    return null;
  }
}
