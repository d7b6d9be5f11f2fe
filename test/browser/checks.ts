/** The same work in Node and in a browser worker: what comes out must be the same within float tolerance. */
import { cloneModel } from "../../src/ir/graph.ts";
import { readModel } from "../../src/onnx/read.ts";
import { open } from "../../src/runtime/session.ts";
import { numbersOf, tensor } from "../../src/tensor/tensor.ts";

export type Check = (bytes: Uint8Array) => Promise<number[]>;

export const checks: Record<string, Check> = {
  /** Outputs of a model on a fixed input. */
  async run(bytes) {
    const model = cloneModel(readModel(bytes));
    const session = await open(model, { threads: 1 });
    const input = session.inputs[0]!;
    const shape = input.shape.map((d) => (typeof d === "number" ? d : 2));
    const x = tensor(
      "float32",
      shape,
      Array.from({ length: shape.reduce((a, d) => a * d, 1) }, (_, i) => Math.sin(i)),
    );
    const y = (await session.run({ [input.name]: x }))[session.outputs[0]!.name]!;
    await session.release();
    return [...numbersOf(y)];
  },
};
