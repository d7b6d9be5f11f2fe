/** Models by hand, each with one thing that exporters rarely write or that ONNX only just allows. `runs`: ONNX Runtime takes it. */
import { create, toBinary } from "@bufbuild/protobuf";
import * as onnx from "onnx-buf";
import { type DType, dtypes } from "../src/tensor/dtype.ts";
import { attr, entry, floats, graph, graphAttr, type Init, info, model, node, opset, raw, attributeType as T, type } from "./protos.ts";

export interface Exotic {
  readonly bytes: Uint8Array;
  readonly runs: boolean;
}

const x = info("x");
const y = info("y");
const relu = { input: [x], output: [y], node: [node("Relu", ["x"], ["y"])] };
const w = floats("w", [2], [1, 2]);
const addW = { input: [x], output: [y], node: [node("Add", ["x", "w"], ["y"])] };
const yes = raw("yes", 9, [], Uint8Array.of(1));
const int64 = (...v: bigint[]) => BigInt64Array.from(v);

/** Unknown fields of all kinds. */
const unknown = (no: number) => ({
  $unknown: [
    { no, wireType: 2, data: Uint8Array.of(3, 1, 2, 3) },
    { no: no + 1, wireType: 0, data: Uint8Array.of(200, 1) },
    { no: no + 2, wireType: 5, data: Uint8Array.of(1, 2, 3, 4) },
    { no: no + 3, wireType: 1, data: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) },
  ],
});

function sparse(name: string, dims: number[], indices: bigint[], indexDims: number[], values: number[]): onnx.SparseTensorProto {
  return create(onnx.SparseTensorProtoSchema, {
    dims: dims.map(BigInt),
    values: floats(name, [values.length], values),
    indices: raw("", 7, indexDims, int64(...indices)),
  });
}

const branch = (nodes: onnx.NodeProto[], output: onnx.ValueInfoProto[], more: Init<typeof onnx.GraphProtoSchema> = {}) =>
  graph({ name: "branch", node: nodes, output, ...more });

/** The branch not taken. */
const same = branch([node("Identity", ["x"], ["e"])], [info("e")]);

/** x → y through an If that takes its first branch. */
const choice = (first: onnx.GraphProto, second: onnx.GraphProto, before: onnx.NodeProto[] = []) => ({
  input: [x],
  output: [y],
  initializer: [yes],
  node: [...before, node("If", ["yes"], ["y"], { attribute: [graphAttr("then_branch", first), graphAttr("else_branch", second)] })],
});

const loopBody = graph({
  name: "body",
  input: [info("i", 7, []), info("go", 9, []), info("s")],
  node: [node("Add", ["s", "x"], ["t"]), node("Identity", ["go"], ["on"])],
  output: [info("on", 9, []), info("t"), info("t")],
});
const loop = (out: string) => ({
  input: [x],
  output: [info(out), info("all", 1, null)],
  initializer: [yes, raw("n", 7, [], int64(3n))],
  node: [node("Loop", ["n", "yes", "x"], [out, "all"], { attribute: [graphAttr("body", loopBody)] })],
});

const my = { irVersion: 10n, opsetImport: [opset(17), opset(1, "my")] };
const fn = (more: Init<typeof onnx.FunctionProtoSchema> = {}) =>
  create(onnx.FunctionProtoSchema, {
    name: "f",
    domain: "my",
    input: ["a"],
    output: ["b"],
    attribute: ["alpha"],
    opsetImport: [opset(17)],
    node: [node("LeakyRelu", ["a"], ["b"], { attribute: [attr("alpha", { type: T.FLOAT, refAttrName: "alpha" })] })],
    ...more,
  });
const alpha = (f: number) => ({ domain: "my", attribute: [attr("alpha", { type: T.FLOAT, f })] });
const elu = fn({
  overload: "two",
  node: [node("Elu", ["a"], ["b"], { attribute: [attr("alpha", { type: T.FLOAT, refAttrName: "alpha" })] })],
});

const sequence = create(onnx.TypeProtoSchema, {
  value: { case: "sequenceType", value: create(onnx.TypeProto_SequenceSchema, { elemType: type(1, null) }) },
});
const optional = create(onnx.TypeProtoSchema, {
  value: { case: "optionalType", value: create(onnx.TypeProto_OptionalSchema, { elemType: type(1, [2]) }) },
});

const constant = (name: string, a: Init<typeof onnx.AttributeProtoSchema>, elemType: number, dims: number[]) =>
  model({
    input: [x],
    output: [y, info("k", elemType, dims)],
    node: [...relu.node, node("Constant", [], ["k"], { attribute: [attr(name, a)] })],
  });

const untypedAttrs = [
  attr("i", { i: 0n }),
  attr("f", { f: 0 }),
  attr("s", { s: new Uint8Array(0) }),
  attr("is", { ints: [1n] }),
  attr("fs", { floats: [1] }),
  attr("ss", { strings: [Uint8Array.of(97)] }),
  attr("t", { t: floats("", [1], [1]) }),
  attr("none", {}),
];

/** The same few things on the wire as no writer of ours would put them there. */
const wire = {
  "typed data unpacked among other fields, fields out of order, defaults written out": (() => {
    const tensor = [0x25, 0, 0, 0x80, 0x3f, 0x42, 1, 119, 0x10, 1, 0x25, 0, 0, 0, 0x40, 0x0a, 1, 2];
    const rest = toBinary(onnx.GraphProtoSchema, graph(addW));
    const g = [0x2a, tensor.length, ...tensor, ...rest, 0x52, 0];
    const imports = toBinary(onnx.OperatorSetIdProtoSchema, opset(17, ""));
    return [0x12, 0, 0x3a, g.length, ...g, 0x42, imports.length, ...imports, 0x08, 8, 0x32, 0];
  })(),
  "a graph in two records, which protobuf merges": (() => {
    const a = toBinary(onnx.GraphProtoSchema, graph({ input: [x], node: [node("Relu", ["x"], ["a"])] }));
    const b = toBinary(onnx.GraphProtoSchema, create(onnx.GraphProtoSchema, { output: [y], node: [node("Neg", ["a"], ["y"])] }));
    const imports = toBinary(onnx.OperatorSetIdProtoSchema, opset(17));
    return [0x3a, a.length, ...a, 8, 8, 0x3a, b.length, ...b, 0x42, imports.length, ...imports];
  })(),
  "varints longer than they need be": (() => {
    const g = toBinary(onnx.GraphProtoSchema, graph(relu));
    const imports = toBinary(onnx.OperatorSetIdProtoSchema, opset(17));
    return [0x88, 0x00, 0x88, 0x80, 0x00, 0x3a, g.length | 0x80, 0x80, 0x00, ...g, 0x42, imports.length, ...imports];
  })(),
};

export function exotic(): Record<string, Exotic> {
  const out: Record<string, Exotic> = {};
  const add = (name: string, bytes: Uint8Array, runs = true) => {
    out[name] = { bytes, runs };
  };
  add(
    "nodes in no order",
    model({ input: [x], output: [y], node: [node("Relu", ["b"], ["y"]), node("Neg", ["x"], ["a"]), node("Abs", ["a"], ["b"])] }),
  );
  add("an opset imported twice", model(relu, { opsetImport: [opset(17, ""), opset(17, "ai.onnx")] }));
  add("an opset imported twice, differently", model(relu, { opsetImport: [opset(13, "ai.onnx"), opset(17, "")] }));
  add("the default domain by its name", model({ ...relu, node: [node("Relu", ["x"], ["y"], { domain: "ai.onnx" })] }));
  add("a metadata key twice", model(relu, { metadataProps: [entry("a", "1"), entry("b", ""), entry("a", "2"), entry("__proto__", "3")] }));
  add(
    "two nodes of one name",
    model({ input: [x], output: [y], node: [node("Relu", ["x"], ["a"], { name: "n" }), node("Neg", ["a"], ["y"], { name: "n" })] }),
    false,
  );
  add("an initializer twice", model({ ...addW, initializer: [floats("w", [2], [3, 4]), w] }), true);
  add(
    "value_info of inputs, of nobody, without a type",
    model({ ...relu, valueInfo: [info("nobody"), info("x"), create(onnx.ValueInfoProtoSchema, { name: "y", docString: "d" })] }),
  );
  add("an initializer that is an input", model({ ...addW, input: [x, info("w")], initializer: [w] }));
  add(
    "an initializer that is an input without a type",
    model({ ...addW, input: [x, create(onnx.ValueInfoProtoSchema, { name: "w" })], initializer: [w] }),
  );
  add("an input that is an output", model({ input: [x], output: [x], node: [] }));
  add("an initializer that is an output", model({ ...addW, output: [y, info("w")], initializer: [w] }));
  add(
    "unused inputs, initializers and nodes",
    model({ ...relu, input: [x, info("z")], initializer: [w], node: [...relu.node, node("Neg", ["x"], ["dead"])] }),
  );
  add("a branch that gives outer values", model(choice(branch([], [info("a")]), same, [node("Neg", ["x"], ["a"])])), false);
  add("a branch that gives its initializer", model(choice(branch([], [info("w")], { initializer: [w] }), same)));
  add(
    "the same names in both branches",
    model(
      choice(
        branch([node("Abs", ["x"], ["q"]), node("Relu", ["q"], ["r"])], [info("r")]),
        branch([node("Neg", ["x"], ["q"])], [info("q")]),
      ),
    ),
  );
  add(
    "a documented branch with unknown fields",
    model(choice(branch([node("Abs", ["x"], ["q"])], [info("q")], { docString: "doc", ...unknown(100) }), same)),
  );
  add(
    "a sparse initializer in a branch",
    model(choice(branch([node("Add", ["x", "s"], ["q"])], [info("q")], { sparseInitializer: [sparse("s", [2], [1n], [1], [5])] }), same)),
  );
  add("a loop", model(loop("y")));
  add("a loop whose output has the name of a value inside", model(loop("t")));
  const scanBody = graph({
    name: "b",
    input: [info("p"), info("q")],
    node: [node("Add", ["p", "q"], ["r"]), node("Identity", ["r"], ["r2"])],
    output: [info("r"), info("r2")],
  });
  add(
    "a scan",
    model({
      input: [info("x", 1, [3, 2])],
      output: [y, info("all", 1, [3, 2])],
      initializer: [floats("z", [2], [0, 0])],
      node: [
        node("Scan", ["z", "x"], ["y", "all"], {
          attribute: [attr("num_scan_inputs", { type: T.INT, i: 1n }), graphAttr("body", scanBody)],
        }),
      ],
    }),
  );
  add("IR 3: initializers must be inputs", model({ ...addW, input: [x, info("w")], initializer: [w] }, { irVersion: 3n }));
  add(
    "IR 1: no imports, no attribute types",
    model({ ...relu, node: [node("Unheard", ["x"], ["y"], { attribute: untypedAttrs })] }, { irVersion: 1n, opsetImport: [] }),
    false,
  );
  add(
    "attributes without types",
    model({ ...relu, node: [node("LeakyRelu", ["x"], ["y"], { attribute: [attr("alpha", { f: 0 })] })] }),
    false,
  );
  add(
    "unknown fields at every level",
    model(
      {
        input: [Object.assign(info("x"), unknown(200))],
        output: [y],
        initializer: [Object.assign(floats("w", [2], [1, 2]), unknown(300))],
        node: [
          Object.assign(
            node("LeakyRelu", ["x"], ["a"], { attribute: [Object.assign(attr("alpha", { type: T.FLOAT, f: 0.5 }), unknown(500))] }),
            unknown(400),
          ),
          node("Add", ["a", "w"], ["y"]),
        ],
        ...unknown(600),
      },
      unknown(700),
    ),
  );
  const note = { metadataProps: [entry("k", "v")], docString: "doc" };
  add(
    "notes at every level, devices",
    model(
      {
        ...note,
        input: [create(onnx.ValueInfoProtoSchema, { ...info("x"), ...note })],
        output: [y],
        initializer: [create(onnx.TensorProtoSchema, { ...floats("w", [2], [1, 2]), ...note })],
        node: [
          node("Add", ["x", "w"], ["y"], {
            ...note,
            deviceConfigurations: [create(onnx.NodeDeviceConfigurationProtoSchema, { configurationId: "c", pipelineStage: 2 })],
          }),
        ],
      },
      {
        ...note,
        modelVersion: 7n,
        domain: "d",
        producerVersion: "1",
        configuration: [create(onnx.DeviceConfigurationProtoSchema, { name: "c", numDevices: 2 })],
      },
    ),
  );
  for (const [name, bytes] of Object.entries(wire)) add(name, Uint8Array.from(bytes));
  add("a sparse initializer", model({ ...addW, sparseInitializer: [sparse("w", [2], [1n], [1], [5])] }));
  const matrix = { input: [info("x", 1, [2, 3])], output: [info("y", 1, [2, 3])], node: addW.node };
  add(
    "a sparse initializer by coordinates",
    model({ ...matrix, sparseInitializer: [sparse("w", [2, 3], [0n, 1n, 1n, 2n], [2, 2], [5, 6])] }),
  );
  const sparseValue = attr("sparse_value", { type: T.SPARSE_TENSOR, sparseTensor: sparse("", [2], [1n], [1], [5]) });
  add("a sparse constant", model({ ...addW, node: [node("Constant", [], ["w"], { attribute: [sparseValue] }), ...addW.node] }));
  add("a constant float", constant("value_float", { type: T.FLOAT, f: 1.5 }, 1, []));
  add("constant floats", constant("value_floats", { type: T.FLOATS, floats: [1.5, -0] }, 1, [2]));
  add("a constant int", constant("value_int", { type: T.INT, i: 2n ** 63n - 1n }, 7, []));
  add("constant ints", constant("value_ints", { type: T.INTS, ints: [5n, -(2n ** 53n) - 1n] }, 7, [2]));
  add("a constant string", constant("value_string", { type: T.STRING, s: Uint8Array.of(0xff, 97) }, 8, []));
  add("constant strings", constant("value_strings", { type: T.STRINGS, strings: [Uint8Array.of(97), new Uint8Array(0)] }, 8, [2]));
  const large = create(onnx.TensorProtoSchema, {
    ...floats(
      "its own name",
      [3000],
      Array.from({ length: 3000 }, (_, i) => i),
    ),
    ...unknown(300),
  });
  add(
    "a large constant with a name and unknown fields",
    model({
      input: [info("x", 1, [3000])],
      output: [info("y", 1, [3000])],
      node: [node("Constant", [], ["w"], { attribute: [attr("value", { type: T.TENSOR, t: large, docString: "kept" })] }), ...addW.node],
    }),
  );
  const annotation = create(onnx.TensorAnnotationSchema, { tensorName: "y", quantParameterTensorNames: [entry("SCALE_TENSOR", "s")] });
  add("a quantization annotation", model({ ...relu, quantizationAnnotation: [annotation] }));
  const algorithm = graph({ name: "a", node: [node("Neg", ["x"], ["g0"])], output: [info("g0")] });
  add(
    "training info",
    model(relu, { trainingInfo: [create(onnx.TrainingInfoProtoSchema, { algorithm, updateBinding: [entry("w", "g0")] })] }),
  );
  const calls = (overload?: string) => [
    node("f", ["x"], ["t"], { ...alpha(0.3), ...(overload ? { overload } : {}) }),
    node("f", ["t"], ["y"], alpha(0.1)),
  ];
  add("a function with an attribute", model({ ...relu, node: calls() }, { ...my, functions: [fn()] }));
  add("a function and its overload", model({ ...relu, node: calls("two") }, { ...my, functions: [fn(), elu] }));
  add(
    "an output that is a sequence",
    model({
      ...relu,
      output: [y, create(onnx.ValueInfoProtoSchema, { name: "s", type: sequence })],
      node: [...relu.node, node("SequenceConstruct", ["x", "y"], ["s"])],
    }),
  );
  add(
    "an optional value",
    model({
      ...relu,
      node: [node("Optional", ["x"], ["s"]), node("OptionalGetElement", ["s"], ["y"])],
      valueInfo: [create(onnx.ValueInfoProtoSchema, { name: "s", type: optional })],
    }),
  );
  add(
    "an empty optional, its type an attribute",
    model({
      ...relu,
      output: [y, info("h", 9, [])],
      node: [
        ...relu.node,
        node("Optional", [], ["s"], { attribute: [attr("type", { type: T.TYPE_PROTO, tp: type(1, [2]) })] }),
        node("OptionalHasElement", ["s"], ["h"]),
      ],
    }),
  );
  add("an omitted input", model({ ...relu, initializer: [floats("m", [], [1])], node: [node("Clip", ["x", "", "m"], ["y"])] }));
  add(
    "an omitted output",
    model({
      ...addW,
      output: [y, info("deviation", 1, null)],
      initializer: [w],
      node: [node("LayerNormalization", ["x", "w"], ["y", "", "deviation"])],
    }),
  );
  add(
    "omitted inputs and outputs at the end",
    model({ ...relu, node: [node("Relu", ["x"], ["z"]), node("Dropout", ["z", "", ""], ["y", ""])] }),
  );
  add("a size of −1", model({ ...relu, input: [info("x", 1, [-1])], output: [info("y", 1, [-1])] }));
  add(
    "an empty tensor",
    model({
      ...relu,
      initializer: [floats("none", [0], [])],
      node: [node("Concat", ["none", "x"], ["y"], { attribute: [attr("axis", { type: T.INT, i: 0n })] })],
    }),
  );
  add(
    "names every object has",
    model({
      input: [info("__proto__")],
      output: [info("constructor")],
      node: [node("Relu", ["__proto__"], ["constructor"], { name: "toString" })],
    }),
    false,
  );
  for (const dtype of Object.keys(dtypes) as DType[])
    for (const [kind, bytes] of ofType(dtype)) add(`${dtype} in ${kind}`, bytes, !untaken.has(dtype));
  return out;
}

/** What ONNX Runtime has no kernels for. */
const untaken = new Set<DType>(["complex64", "complex128", "float4e2m1"]);

/** Five elements of a type in raw_data and in its typed field, as initializers and in a Constant node. */
function ofType(dtype: DType): [string, Uint8Array][] {
  const { code, bits, kind } = dtypes[dtype];
  const base = { name: "w", dims: [5n], dataType: code };
  const some = Array.from({ length: 5 }, (_, i) => i - 1.5);
  const typed: Init<typeof onnx.TensorProtoSchema> =
    kind === "s"
      ? { stringData: ["a", "", "ü", "\0", "b"].map((s) => new TextEncoder().encode(s) as Uint8Array<ArrayBuffer>) }
      : dtype === "float32" || dtype === "complex64"
        ? { floatData: kind === "c" ? [...some, ...some] : some }
        : dtype === "float64" || dtype === "complex128"
          ? { doubleData: kind === "c" ? [...some, ...some] : some }
          : dtype === "int64"
            ? { int64Data: [0n, -1n, 2n ** 63n - 1n, -(2n ** 63n), 300n] }
            : kind === "u" && bits >= 32
              ? { uint64Data: [0n, 2n ** BigInt(bits) - 1n, 2n ** 31n, 128n, 1n] }
              : {
                  int32Data: Array.from({ length: bits < 8 ? Math.ceil((5 * bits) / 8) : 5 }, (_, i) =>
                    kind === "i" && bits >= 8 ? -i : kind === "b" ? i % 2 : 3 * i,
                  ),
                };
  const rawData = Uint8Array.from({ length: Math.ceil((5 * bits) / 8) }, (_, i) => (kind === "b" ? i % 2 : i));
  const tensors: [string, onnx.TensorProto][] = [["typed data", create(onnx.TensorProtoSchema, { ...base, ...typed })]];
  if (kind !== "s") tensors.push(["raw data", create(onnx.TensorProtoSchema, { ...base, rawData })]);
  const more = { irVersion: 13n, opsetImport: [opset(25)] };
  // Types that the binding cannot return are cast to float32.
  const wide = !["s", "c"].includes(kind) && !(kind === "f" && bits >= 16 && dtype !== "bfloat16") && (bits < 8 || kind === "f");
  const read = wide ? node("Cast", ["w"], ["z"], { attribute: [attr("to", { type: T.INT, i: 1n })] }) : node("Identity", ["w"], ["z"]);
  const io = { input: [x], output: [y, info("z", wide ? 1 : code, [5])] };
  return tensors.flatMap(([name, t]): [string, Uint8Array][] => [
    [`${name} of an initializer`, model({ ...io, initializer: [t], node: [...relu.node, read] }, more)],
    [
      `${name} of a Constant`,
      model(
        { ...io, node: [...relu.node, node("Constant", [], ["w"], { attribute: [attr("value", { type: T.TENSOR, t })] }), read] },
        more,
      ),
    ],
  ]);
}
