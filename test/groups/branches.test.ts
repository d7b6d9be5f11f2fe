/** Channels inside the branches of Ifs: free where the sample goes, kept by name where it does not. */
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Batch } from "../../src/data/dataset.ts";
import { Graph, type Model, type Value } from "../../src/ir/graph.ts";
import { load } from "../../src/onnx/file.ts";
import { open } from "../../src/runtime/session.ts";
import { sampleFeeds } from "../../src/runtime/shapes.ts";
import { random } from "../../src/tensor/random.ts";
import { type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { removed, say } from "./law.ts";
import { type Pieces, pieces } from "./nets.ts";

const rounding = 2e-6;

function branch(p: Pieces, name: string, make: (body: Graph) => Value): Graph {
  const body = new Graph(name, p.model.graph);
  body.addOutput(make(body));
  return body;
}

function conv(body: Graph, name: string, x: Value, [into, out]: readonly [number, number]): Value {
  const w = tensor("float32", [out, into, 3, 3], random(0, name).fillNormal(new Float32Array(out * into * 9), 0.3));
  return body.append("Conv", [x, body.initializer(name, w)], { name: `${name}/conv`, attrs: { pads: [1, 1, 1, 1] } }).outputs[0]!;
}

const relu = (body: Graph, x: Value) => body.append("Relu", [x]).outputs[0]!;
const fork = (p: Pieces, name: string, flag: Value, then: Graph, otherwise: Graph) =>
  p.op(name, "If", [flag], { then_branch: then, else_branch: otherwise });

function forked(): Model {
  const p = pieces();
  const flag = p.model.graph.input("flag", "bool", []);
  const a = p.conv3("a", p.image(3), [3, 6]);
  const y = fork(
    p,
    "fork",
    flag,
    branch(p, "then", (g) => conv(g, "t2", relu(g, conv(g, "t1", a, [6, 4])), [4, 5])),
    branch(p, "else", (g) => conv(g, "e2", relu(g, conv(g, "e1", a, [6, 7])), [7, 5])),
  );
  return p.classify(p.conv3("b", y, [5, 4]), 4);
}

async function runs(model: Model, feeds: Batch): Promise<Tensor> {
  const session = await open(model, { threads: 1 });
  try {
    return Object.values(await session.run(feeds))[0]!;
  } finally {
    await session.release();
  }
}

const named = (groups: readonly { name: string; frozen: string | null }[]) =>
  Object.fromEntries(groups.map((g) => [g.name, g.frozen] as const));

test.for([
  { flag: 1, free: "t1[0] 4: t2[1]", kept: ["e1[0]", "e2[0]", "a.w[0]"] },
  { flag: 0, free: "e1[0] 7: e2[1]", kept: ["t1[0]", "t2[0]", "a.w[0]"] },
])("the branch that is taken ($flag)", async ({ flag, free, kept }) => {
  const model = forked();
  const feeds = { ...sampleFeeds(model, { batch: 2 }), flag: tensor("bool", [], [flag]) };
  const { found, keep, difference, after } = await removed(model, feeds, 1);
  const unfrozen = found.groups.filter((g) => !g.frozen);
  expect(unfrozen.map(say)).toEqual([free, "b.w[0] 4: b.b fc.weight[1]"]);
  expect(keep.size).toBe(2);
  expect(difference).toBeLessThan(rounding);
  const why = named(found.groups);
  for (const name of kept) expect(why[name]).toBe('If "fork" reads or gives it where the sample does not go');
  // The other branch still runs.
  const other = { ...feeds, flag: tensor("bool", [], [1 - flag]) };
  expect((await runs(after, other)).shape).toEqual([2, 3]);
});

test("Silero VAD: the encoder of the sampling rate that is asked for", async () => {
  const file = join(import.meta.dirname, "../../node_modules/@ricky0123/vad-web/dist/silero_vad_v5.onnx");
  const model = load(file);
  const feeds = sampleFeeds(model, { shape: { input: [1, 512] } });
  const { found, keep, difference } = await removed(model, feeds, 1);
  expect([...keep.keys()].map((g) => `${g.name.replace(/.*__/, "")} ${g.size}`)).toEqual([
    "stft.forward_basis_buffer[0] 129",
    "encoder.0.reparam_conv.weight[0] 128",
    "encoder.1.reparam_conv.weight[0] 64",
    "encoder.2.reparam_conv.weight[0] 64",
  ]);
  const shut = found.groups.filter((g) => g.frozen === 'If "If_0" reads or gives it where the sample does not go');
  expect(shut.length).toBeGreaterThan(20);
  expect(difference).toBeLessThan(rounding);
});
