/** The same work in Node and in a browser worker: what comes out must be the same within float tolerance. */
import {
  adam,
  check,
  compress,
  crossEntropy,
  type Dataset,
  fit,
  fromArrays,
  half,
  int8,
  lenet300,
  type Model,
  measureModels,
  numbersOf,
  open,
  random,
  readModel,
  summarize,
  svd,
  tensor,
  writeModel,
} from "pith";

/** A model file in, figures out, each with a name. */
export type Check = (bytes: Uint8Array) => Promise<Record<string, number>>;

/** 64 examples that fit the model: one class for each of ten directions. */
function examples(): Dataset {
  const r = random(7);
  const x = r.fillNormal(new Float32Array(64 * 784));
  return fromArrays({
    x: tensor("float32", [64, 784], x),
    labels: tensor(
      "int64",
      [64],
      Array.from({ length: 64 }, (_, i) => i % 10),
    ),
  });
}

async function outputs(model: Model): Promise<Record<string, number>> {
  const session = await open(model, { threads: 1 });
  const feeds = examples().take([0, 1, 2]);
  const y = (await session.run({ x: feeds.x! }, ["logits"])).logits!;
  await session.release();
  return Object.fromEntries([...numbersOf(y)].map((v, i) => [`logit ${i}`, v]));
}

export const checks: Record<string, Check> = {
  async "load and run"(bytes) {
    const model = readModel(bytes);
    check(model);
    const same = writeModel(model).every((b, i) => b === bytes[i]);
    return { ...(await outputs(model)), same: same ? 1 : 0 };
  },
  async show(bytes) {
    const s = summarize(readModel(bytes));
    return { parameters: s.parameters, nodes: s.nodes };
  },
  async svd(bytes) {
    const { model } = await compress(readModel(bytes), [svd({ rank: 16 })], { measure: null, threads: 1 });
    return { ...(await outputs(model)), nodes: model.graph.nodes.size };
  },
  async "static int8"(bytes) {
    const calibration = examples();
    const { model } = await compress(readModel(bytes), [int8({ mode: "static" })], { calibration, measure: null, threads: 1 });
    return { ...(await outputs(model)), bytes: writeModel(model).byteLength };
  },
  async half(bytes) {
    const calibration = examples();
    const { model } = await compress(readModel(bytes), [half()], { calibration, measure: null, threads: 1 });
    return { ...(await outputs(model)), bytes: writeModel(model).byteLength };
  },
  async measure(bytes) {
    const model = readModel(bytes);
    const [figures] = await measureModels([{ name: "a", model }], { data: examples(), seconds: 0.2, brotli: false });
    const of = (metric: string) => figures!.find((m) => m.metric === metric)?.value ?? Number.NaN;
    // How long it took is not the same, but that it was timed is.
    return { file: of("file"), accuracy: of("accuracy"), parameters: of("parameters"), macs: of("macs"), timed: of("latency") > 0 ? 1 : 0 };
  },
  async train(bytes) {
    const model = readModel(bytes);
    const { losses } = await fit(model, { data: examples(), loss: crossEntropy(), optimizer: adam(), batchSize: 16, steps: 5, threads: 1 });
    return Object.fromEntries(losses.map((l, i) => [`loss ${i}`, l]));
  },
};

/** The model the checks work on. */
export const sample = (): Uint8Array => writeModel(lenet300({ seed: 1 }));
