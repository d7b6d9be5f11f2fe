import { create } from "@bufbuild/protobuf";
import * as onnx from "onnx-buf";
import { describe, expect, test } from "vitest";
import { attr, floats, graph, graphAttr, type Init, info, model, node, opset, raw, attributeType as T, tensor } from "../../test/protos.ts";
import { answer, corpus, sameTensor } from "../../test/roundtrip.ts";
import { check } from "../ir/check.ts";
import { allNodes } from "../ir/walk.ts";
import { functionsOf, readModel } from "../onnx/read.ts";
import { isUntouched, writeModel } from "../onnx/write.ts";
import { inlineFunctions } from "./inline.ts";

const fn = (name: string, input: string[], output: string[], nodes: onnx.NodeProto[], more: Init<typeof onnx.FunctionProtoSchema> = {}) =>
  create(onnx.FunctionProtoSchema, { name, domain: "my", input, output, node: nodes, opsetImport: [opset(17), opset(1, "my")], ...more });
const call = (name: string, input: string[], output: string[], more: Init<typeof onnx.NodeProtoSchema> = {}) =>
  node(name, input, output, { domain: "my", ...more });
const ref = (name: string, type: onnx.AttributeProto_AttributeType, refAttrName = name) => attr(name, { type, refAttrName });
const alpha = (f: number) => ({ attribute: [attr("alpha", { type: T.FLOAT, f })] });
const leaky = (input: string, output: string) => node("LeakyRelu", [input], [output], { attribute: [ref("alpha", T.FLOAT)] });
const x = info("x");
const y = info("y");
const file = (
  nodes: onnx.NodeProto[],
  functions: onnx.FunctionProto[],
  more: Init<typeof onnx.GraphProtoSchema> = {},
  version = 17,
): Uint8Array =>
  model({ input: [x], output: [y], node: nodes, ...more }, { irVersion: 10n, opsetImport: [opset(version), opset(1, "my")], functions });

const yes = raw("yes", 9, [], Uint8Array.of(1));
const branch = (nodes: onnx.NodeProto[], output: string) => graph({ name: "branch", node: nodes, output: [info(output)] });
const choice = (output: string, first: onnx.GraphProto, second: onnx.GraphProto) =>
  node("If", ["yes"], [output], { attribute: [graphAttr("then_branch", first), graphAttr("else_branch", second)] });
const constant = (output: string, t: onnx.AttributeProto) => node("Constant", [], [output], { attribute: [t] });

const sumOfFirst = attr("axes", { type: T.INTS, ints: [0n] });
const reduced = constant("axes", attr("value", { type: T.TENSOR, t: raw("", 7, [1], BigInt64Array.of(0n)) }));

/** `plain`: the same without functions, where ONNX Runtime does not take the original. */
const cases: Record<string, { bytes: Uint8Array; calls: Record<string, number>; plain?: Uint8Array }> = {
  "twice, each with its attribute": {
    bytes: file(
      [call("f", ["x"], ["t"], alpha(0.3)), call("f", ["t"], ["y"], alpha(0.1))],
      [fn("f", ["a"], ["b"], [leaky("a", "t"), node("Neg", ["t"], ["b"])], { attribute: ["alpha"] })],
    ),
    calls: { f: 2 },
  },
  "a default, and an attribute that nobody gives": {
    bytes: file(
      [
        call("f", ["x"], ["t"]),
        call("f", ["t"], ["y"], { attribute: [attr("alpha", { type: T.FLOAT, f: 0.9 }), attr("gamma", { type: T.FLOAT, f: 2 })] }),
      ],
      [
        fn("f", ["a"], ["b"], [leaky("a", "t"), node("Selu", ["t"], ["b"], { attribute: [ref("gamma", T.FLOAT)] })], {
          attribute: ["gamma"],
          attributeProto: [attr("alpha", { type: T.FLOAT, f: 0.7 })],
        }),
      ],
    ),
    calls: { f: 2 },
  },
  "attributes under other names, tensors among them": {
    bytes: file(
      [
        call("f", ["x"], ["y"], {
          attribute: [attr("k", { type: T.TENSOR, t: floats("", [2], [5, 6]) }), attr("slope", { type: T.FLOAT, f: 0.25 })],
        }),
      ],
      [
        fn(
          "f",
          ["a"],
          ["b"],
          [
            constant("c", ref("value", T.TENSOR, "k")),
            node("Mul", ["a", "c"], ["m"]),
            node("LeakyRelu", ["m"], ["b"], { attribute: [ref("alpha", T.FLOAT, "slope")] }),
          ],
          {
            attribute: ["k", "slope"],
          },
        ),
      ],
    ),
    calls: { f: 1 },
  },
  "functions that call functions, attributes handed on": {
    bytes: file(
      [call("outer", ["x"], ["y"], { name: "top", attribute: [attr("slope", { type: T.FLOAT, f: 0.5 })] })],
      [
        fn("inner", ["a"], ["b"], [leaky("a", "b")], { attribute: ["alpha"] }),
        fn(
          "outer",
          ["a"],
          ["b"],
          [
            call("inner", ["a"], ["t"], { attribute: [ref("alpha", T.FLOAT, "slope")] }),
            node("Neg", ["t"], ["u"]),
            call("inner", ["u"], ["b"], alpha(0.125)),
          ],
          {
            attribute: ["slope"],
          },
        ),
      ],
    ),
    calls: { outer: 1, inner: 2 },
  },
  "an overload": {
    bytes: file(
      [call("f", ["x"], ["t"], { overload: "two" }), call("f", ["t"], ["y"])],
      [fn("f", ["a"], ["b"], [node("Neg", ["a"], ["b"])]), fn("f", ["a"], ["b"], [node("Exp", ["a"], ["b"])], { overload: "two" })],
    ),
    calls: { f: 2 },
  },
  "outputs that are inputs, one value twice, some not asked for": {
    bytes: file(
      [call("f", ["x"], ["p", "q", "", "r"]), node("Sum", ["p", "q", "r"], ["y"])],
      [fn("f", ["a"], ["a", "b", "c", "b"], [node("Neg", ["a"], ["b"]), node("Abs", ["a"], ["c"])])],
    ),
    calls: { f: 1 },
    plain: file([node("Neg", ["x"], ["q"]), node("Sum", ["x", "q", "q"], ["y"])], []),
  },
  "inputs left out": {
    bytes: file(
      [call("f", ["x", "", "high"], ["t"]), call("f", ["t"], ["y"])],
      [fn("f", ["a", "low", "high"], ["b"], [node("Clip", ["a", "low", "high"], ["b"])])],
      { initializer: [floats("high", [], [0.5])] },
    ),
    calls: { f: 2 },
  },
  "branches in the function that read its values, names as outside": {
    bytes: file(
      [node("Neg", ["x"], ["t"]), call("f", ["t", "yes"], ["u"], alpha(0.3)), call("f", ["u", "yes"], ["y"], alpha(0.6))],
      [
        fn(
          "f",
          ["a", "yes"],
          ["b"],
          [
            node("Abs", ["a"], ["t"]),
            choice("b", branch([leaky("a", "u"), node("Add", ["u", "t"], ["y"])], "y"), branch([node("Identity", ["t"], ["x"])], "x")),
          ],
          {
            attribute: ["alpha"],
          },
        ),
      ],
      { initializer: [yes] },
    ),
    calls: { f: 2 },
  },
  "calls inside branches": {
    bytes: file(
      [
        choice(
          "y",
          branch([call("f", ["x"], ["t"], alpha(0.3)), call("f", ["t"], ["u"], alpha(0.1))], "u"),
          branch([call("f", ["x"], ["t"])], "t"),
        ),
      ],
      [fn("f", ["a"], ["b"], [leaky("a", "b")], { attribute: ["alpha"] })],
      { initializer: [yes] },
    ),
    calls: { f: 3 },
  },
  "an older opset in the function": {
    bytes: file(
      [call("f", ["x"], ["y"])],
      [
        fn("f", ["a"], ["b"], [node("ReduceSum", ["a"], ["s"], { attribute: [sumOfFirst] }), node("Sub", ["a", "s"], ["b"])], {
          opsetImport: [opset(11)],
        }),
      ],
    ),
    calls: { f: 1 },
    plain: file([reduced, node("ReduceSum", ["x", "axes"], ["s"]), node("Sub", ["x", "s"], ["y"])], []),
  },
  "an older opset in the model": {
    bytes: file(
      [node("ReduceSum", ["x"], ["s"], { attribute: [sumOfFirst] }), call("f", ["s"], ["y"])],
      [fn("f", ["a"], ["b"], [reduced, node("ReduceSum", ["a", "axes"], ["b"])])],
      { output: [info("y", 1, [1])] },
      11,
    ),
    calls: { f: 1 },
    plain: file([reduced, node("ReduceSum", ["x", "axes"], ["s"]), node("ReduceSum", ["s", "axes"], ["y"])], [], {
      output: [info("y", 1, [1])],
    }),
  },
  "never called": { bytes: file([node("Neg", ["x"], ["y"])], [fn("f", ["a"], ["b"], [node("Exp", ["a"], ["b"])])]), calls: {} },
};

/** Inlines, and holds that ONNX Runtime, which inlines for itself, gives the same bits for both. */
async function same(bytes: Uint8Array, calls: Record<string, number>, plain = bytes): Promise<void> {
  const before = readModel(bytes);
  expect(functionsOf(before).length).toBeGreaterThan(0);
  expect(Object.fromEntries(inlineFunctions(before))).toEqual(calls);
  check(before);
  expect(isUntouched(before)).toBe(false);
  const written = writeModel(before);
  const again = readModel(written);
  check(again);
  expect(functionsOf(again)).toEqual([]);
  expect([...allNodes(again.graph)].filter((n) => n.domain === "my")).toEqual([]);
  expect(again.opsets.has("my")).toBe(false);
  const names = [...allNodes(again.graph)].map((n) => n.name).filter(Boolean);
  expect(new Set(names).size).toBe(names.length);
  await sameAnswers(plain, written);
}

async function sameAnswers(one: Uint8Array, other: Uint8Array): Promise<void> {
  const a = await answer(one);
  const b = await answer(other);
  if (a.refused !== undefined || b.refused !== undefined) throw new Error(a.refused ?? b.refused);
  for (const [name, t] of a.outputs) expect([name, sameTensor(t, b.outputs.get(name)!)]).toEqual([name, true]);
}

describe("a call becomes the function's nodes", () => {
  test.each(Object.keys(cases))("%s", async (name) => {
    const { bytes, calls, plain } = cases[name]!;
    await same(bytes, calls, plain);
  });

  test("a model without functions stays as it is", () => {
    const m = readModel(model({ input: [x], output: [y], node: [node("Neg", ["x"], ["y"])] }));
    expect(inlineFunctions(m).size).toBe(0);
    expect(isUntouched(m)).toBe(true);
  });

  test("the functions in which torch writes its modules", async () => {
    const name = "torch/functions";
    const bytes = corpus().get(name)!;
    const m = readModel(bytes);
    const domains = new Set(functionsOf(m).map((f) => f.domain));
    expect(inlineFunctions(m).size).toBeGreaterThan(1);
    check(m);
    expect([...allNodes(m.graph)].filter((n) => domains.has(n.domain))).toEqual([]);
    await sameAnswers(bytes, writeModel(m));
  });
});

describe("what cannot be put in place is refused in one line", () => {
  const refused: [string, Uint8Array, string][] = [
    [
      "a function that calls itself",
      file([call("f", ["x"], ["y"])], [fn("f", ["a"], ["b"], [call("f", ["a"], ["b"])])]),
      'function "f": calls itself',
    ],
    [
      "two that call each other",
      file([call("f", ["x"], ["y"])], [fn("f", ["a"], ["b"], [call("g", ["a"], ["b"])]), fn("g", ["a"], ["b"], [call("f", ["a"], ["b"])])]),
      'function "f": calls itself',
    ],
    [
      "calls that double and double",
      file(
        [call("f0", ["x"], ["y"])],
        Array.from({ length: 40 }, (_, i) => fn(`f${i}`, ["a"], ["b"], [call(`f${i + 1}`, ["a"], ["t"]), call(`f${i + 1}`, ["t"], ["b"])])),
      ),
      "its calls in calls make more than",
    ],
    [
      "another version of another domain",
      file([call("f", ["x"], ["y"])], [fn("f", ["a"], ["b"], [node("Neg", ["a"], ["b"])], { opsetImport: [opset(17), opset(2, "my")] })]),
      'function "f": imports version 2 of "my", and the model version 1',
    ],
    [
      "more inputs than it takes",
      file([call("f", ["x", "x"], ["y"])], [fn("f", ["a"], ["b"], [node("Neg", ["a"], ["b"])])]),
      "gives 2 inputs",
    ],
    [
      "a value that nothing computes",
      file([call("f", ["x"], ["y"])], [fn("f", ["a"], ["b"], [node("Add", ["a", "ghost"], ["b"])])]),
      'reads "ghost", which nothing computes',
    ],
    ["an output that nothing computes", file([call("f", ["x"], ["y"])], [fn("f", ["a"], ["b"], [])]), 'output "b"'],
    [
      "a tensor in an external file",
      file(
        [call("f", ["x"], ["y"])],
        [
          fn(
            "f",
            ["a"],
            ["b"],
            [
              constant(
                "b",
                attr("value", {
                  type: T.TENSOR,
                  t: tensor({
                    dataType: 1,
                    dims: [1n],
                    dataLocation: onnx.TensorProto_DataLocation.EXTERNAL,
                    externalData: [{ $typeName: "onnx.StringStringEntryProto", key: "location", value: "w.bin" }],
                  }),
                }),
              ),
            ],
          ),
        ],
      ),
      "only a graph's may be",
    ],
  ];
  test.each(refused)("%s", (_, bytes, message) => {
    const m = readModel(bytes);
    expect(() => inlineFunctions(m)).toThrow(message);
  });
});
