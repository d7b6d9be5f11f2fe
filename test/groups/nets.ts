/** Small nets, one for each way in which channels are coupled. */
import { float, type Model, type Value } from "../../src/ir/graph.ts";
import { type Net, net } from "../../src/nets/net.ts";
import { random } from "../../src/tensor/random.ts";
import { tensor } from "../../src/tensor/tensor.ts";

/** Layers with what the scenarios need beside {@link Net}: names are given in order. */
export interface Pieces extends Net {
  readonly image: (channels: number, size?: number) => Value;
  readonly tokens: (width: number) => Value;
  readonly ints: (...xs: number[]) => Value;
  readonly next: (opType: string, inputs: readonly (Value | null)[], attrs?: Parameters<Net["op"]>[3]) => Value;
  /** 3×3, channels kept or changed, with a random bias. */
  readonly conv3: (name: string, x: Value, channels: readonly [number, number], group?: number) => Value;
  /** x·W + b on the last axis. */
  readonly linear: (name: string, x: Value, units: readonly [number, number]) => Value;
  readonly norm: (name: string, x: Value, c: number) => Value;
  /** Global average, Flatten, dense: ends the net. */
  readonly classify: (x: Value, channels: number) => Model;
  readonly ends: (x: Value) => Model;
}

export function pieces(seed = 0, opset = 17): Pieces {
  const n = net("scenario", seed, opset);
  const { graph } = n.model;
  let count = 0;
  const next: Pieces["next"] = (opType, inputs, attrs) => n.op(`${opType.toLowerCase()}${count++}`, opType, inputs, attrs);
  const vector = (name: string, c: number) => n.weight(name, [c], "normal");
  const self: Pieces = {
    ...n,
    next,
    image: (c, size = 8) => graph.input("x", "float32", ["batch", c, size, size]),
    tokens: (d) => graph.input("x", "float32", ["batch", "time", d]),
    ints: (...xs) => graph.initializer("ints", tensor("int64", [xs.length], xs)),
    conv3: (name, x, [into, out], group = 1) =>
      n.op(name, "Conv", [x, n.weight(`${name}.w`, [out, into / group, 3, 3], "he"), vector(`${name}.b`, out)], {
        pads: [1, 1, 1, 1],
        group,
      }),
    linear: (name, x, [into, out]) =>
      n.op(`${name}.add`, "Add", [n.op(name, "MatMul", [x, n.weight(`${name}.w`, [into, out], "glorot")]), vector(`${name}.b`, out)]),
    norm: (name, x, c) =>
      n.op(name, "BatchNormalization", [
        x,
        n.weight(`${name}.scale`, [c], "he"),
        vector(`${name}.bias`, c),
        vector(`${name}.mean`, c),
        n.weight(`${name}.var`, [c], 1.5),
      ]),
    classify: (x, c) => n.done(n.dense("fc", next("Flatten", [next("GlobalAveragePool", [x])]), [c, 3]), ["batch", 3]),
    ends: (x) => n.done(x, null as never),
  };
  return self;
}

/** Every scenario, and the groups that are to be found in it: name, size and members, in order. */
export interface Scenario {
  readonly model: () => Model;
  readonly free: readonly string[];
}

const heads = (p: Pieces, x: Value, h: number, d: number) =>
  p.next("Transpose", [p.next("Reshape", [x, p.ints(0, -1, h, d)])], { perm: [0, 2, 1, 3] });

function attend(p: Pieces, q: Value, k: Value, v: Value, h: number, d: number): Value {
  const scores = p.next("Mul", [
    p.next("MatMul", [q, p.next("Transpose", [k], { perm: [0, 1, 3, 2] })]),
    p.weight("scale", [1], 1 / Math.sqrt(d)),
  ]);
  const y = p.next("MatMul", [p.next("Softmax", [scores], { axis: -1 }), v]);
  return p.next("Reshape", [p.next("Transpose", [y], { perm: [0, 2, 1, 3] }), p.ints(0, -1, h * d)]);
}

/** Halves of the last axis exchanged, the second negated. */
function rotate(p: Pieces, x: Value, d: number): Value {
  const cut = (from: number, to: number) => p.next("Slice", [x, p.ints(from), p.ints(to), p.ints(-1)]);
  const turned = p.next("Concat", [p.next("Neg", [cut(d / 2, 2 ** 40)]), cut(0, d / 2)], { axis: -1 });
  const along = (name: string) => p.weight(`${name}`, [1, 1, 1, d], "he");
  return p.next("Add", [p.next("Mul", [x, along("cos")]), p.next("Mul", [turned, along("sin")])]);
}

/** A convolution whose weights are int8, by output channels, and whose result is rounded to uint8; `zero`: zero points, which may be shared. */
function int8(p: Pieces, name: string, x: Value, [into, out]: readonly [number, number], zero: Value): Value {
  const r = random(0, name);
  const codes = Array.from({ length: out * into * 9 }, () => r.below(255) - 127);
  const w = p.model.graph.initializer(`${name}.w`, tensor("int8", [out, into, 3, 3], codes));
  const weight = p.next("DequantizeLinear", [w, p.weight(`${name}.s`, [out], 0.01), zero], { axis: 0 });
  const y = p.op(name, "Conv", [x, weight, p.weight(`${name}.b`, [out], "normal")], { pads: [1, 1, 1, 1] });
  const graph = p.model.graph;
  const step = [graph.initializer("step", tensor("float32", [], [0.05])), graph.initializer("middle", tensor("uint8", [], [128]))];
  return p.next("DequantizeLinear", [p.next("QuantizeLinear", [y, ...step]), ...step]);
}

export const scenarios: Readonly<Record<string, Scenario>> = {
  concat: {
    model: () => {
      const p = pieces();
      const x = p.image(3);
      const y = p.next("Concat", [p.conv3("a", x, [3, 6]), p.conv3("b", x, [3, 4])], { axis: 1 });
      return p.classify(p.next("Relu", [p.conv3("c", p.norm("bn", y, 10), [10, 5])]), 5);
    },
    free: [
      "a.w[0] 6: a.b bn.scale bn.bias bn.mean bn.var c.w[1]",
      "b.w[0] 4: b.b bn.scale bn.bias bn.mean bn.var c.w[1]",
      "c.w[0] 5: c.b fc.weight[1]",
    ],
  },
  "cascaded concat": {
    model: () => {
      const p = pieces();
      const a = p.conv3("a", p.image(3), [3, 4]);
      const ab = p.next("Concat", [a, p.conv3("b", a, [4, 3])], { axis: 1 });
      const abc = p.next("Concat", [ab, p.conv3("c", ab, [7, 2])], { axis: 1 });
      return p.classify(p.norm("bn", abc, 9), 9);
    },
    free: [
      "a.w[0] 4: a.b b.w[1] c.w[1] bn.scale bn.bias bn.mean bn.var fc.weight[1]",
      "b.w[0] 3: b.b c.w[1] bn.scale bn.bias bn.mean bn.var fc.weight[1]",
      "c.w[0] 2: c.b bn.scale bn.bias bn.mean bn.var fc.weight[1]",
    ],
  },
  split: {
    model: () => {
      const p = pieces();
      const a = p.conv3("a", p.image(3), [3, 8]);
      const node = p.model.graph.append("Split", [a, p.ints(3, 5)], { name: "split", attrs: { axis: 1 }, outputs: 2 });
      const [left, right] = node.outputs as Value[];
      return p.classify(p.next("Add", [p.conv3("b", left!, [3, 4]), p.conv3("c", p.next("Relu", [right!]), [5, 4])]), 4);
    },
    free: ["a.w[0].0 3: a.b b.w[1]", "a.w[0].1 5: a.b c.w[1]", "b.w[0] 4: b.b c.w[0] c.b fc.weight[1]"],
  },
  "equal split without sizes": {
    model: () => {
      const p = pieces();
      const a = p.conv3("a", p.image(3), [3, 8]);
      const node = p.model.graph.append("Split", [a], { name: "split", attrs: { axis: 1 }, outputs: 2 });
      const [left, right] = node.outputs as Value[];
      return p.classify(p.next("Add", [p.conv3("b", left!, [4, 4]), p.conv3("c", p.next("Relu", [right!]), [4, 4])]), 4);
    },
    free: ["a.w[0].0 4: a.b b.w[1]", "a.w[0].1 4: a.b c.w[1]", "b.w[0] 4: b.b c.w[0] c.b fc.weight[1]"],
  },
  "reshape and flatten": {
    model: () => {
      const p = pieces();
      const a = p.next("Relu", [p.conv3("a", p.image(3, 4), [3, 6])]);
      const tokens = p.next("Transpose", [p.next("Reshape", [a, p.ints(0, 6, 16)])], { perm: [0, 2, 1] });
      const flat = p.next("Flatten", [p.linear("l", tokens, [6, 5])]);
      return p.done(p.dense("fc", flat, [80, 3]), ["batch", 3]);
    },
    free: ["a.w[0] 6: a.b l.w[0]", "l.w[1] 5: l.b fc.weight[1]"],
  },
  "residual with projection": {
    model: () => {
      const p = pieces();
      const a = p.norm("n", p.conv3("a", p.image(3), [3, 6]), 6);
      const b = p.conv3("c", p.next("Relu", [p.conv3("b", a, [6, 4])]), [4, 6]);
      const r = p.next("Relu", [p.next("Add", [a, b])]);
      return p.classify(p.next("Add", [p.conv3("d", r, [6, 5]), p.conv3("short", r, [6, 5])]), 5);
    },
    free: [
      "a.w[0] 6: a.b n.scale n.bias n.mean n.var b.w[1] c.w[0] c.b d.w[1] short.w[1]",
      "b.w[0] 4: b.b c.w[1]",
      "d.w[0] 5: d.b short.w[0] short.b fc.weight[1]",
    ],
  },
  "depthwise, PRelu": {
    model: () => {
      const p = pieces();
      const a = p.next("PRelu", [p.conv3("a", p.image(3), [3, 6]), p.weight("slope", [6, 1, 1], "he")]);
      return p.classify(p.conv3("c", p.conv3("depth", a, [6, 6], 6), [6, 4]), 4);
    },
    free: ["a.w[0] 6: a.b slope[0] depth.w[0] depth.b c.w[1]", "c.w[0] 4: c.b fc.weight[1]"],
  },
  "grouped and transposed convolution": {
    model: () => {
      const p = pieces();
      const a = p.conv3("a", p.image(3), [3, 6]);
      const b = p.conv3("b", a, [6, 8], 2);
      const t = p.next("ConvTranspose", [b, p.weight("t.w", [8, 3, 2, 2], "he"), p.weight("t.b", [6], "normal")], { group: 2 });
      return p.classify(t, 6);
    },
    // The two groups of both convolutions are one factor; within a group, each has its own channels in and out.
    free: [
      "a.w[0].0 2: a.b b.w[0] b.b t.w[0] t.b fc.weight[1]",
      "a.w[0].1 3: a.b b.w[1]",
      "b.w[0].1 4: b.b t.w[0]",
      "t.w[1] 3: t.b fc.weight[1]",
    ],
  },
  "int8 by channels, zero points shared": {
    model: () => {
      const p = pieces();
      const zero = p.model.graph.initializer("zero", tensor("int8", [6], [0, 0, 0, 0, 0, 0]));
      const a = p.next("Relu", [int8(p, "a", p.image(3), [3, 6], zero)]);
      const b = p.next("Relu", [int8(p, "b", a, [6, 6], zero)]);
      return p.classify(int8(p, "c", b, [6, 6], zero), 6);
    },
    free: ["a.w[0] 6: a.s zero_1 a.b b.w[1]", "b.w[0] 6: b.s zero_2 b.b c.w[1]", "c.w[0] 6: c.s zero c.b fc.weight[1]"],
  },
  "channel shuffle": {
    model: () => {
      const p = pieces();
      const a = p.conv3("a", p.image(3), [3, 6], 1);
      const apart = p.next("Reshape", [a, p.ints(0, 2, 3, 8, 8)]);
      const mixed = p.next("Reshape", [p.next("Transpose", [apart], { perm: [0, 2, 1, 3, 4] }), p.ints(0, 6, 8, 8)]);
      return p.classify(p.conv3("b", mixed, [6, 4]), 4);
    },
    free: ["a.w[0].0 2: a.b b.w[1]", "a.w[0].1 3: a.b b.w[1]", "b.w[0] 4: b.b fc.weight[1]"],
  },
  "slice-and-pad shortcut": {
    model: () => {
      const p = pieces();
      const a = p.conv3("a", p.image(3), [3, 4]);
      const every = p.next("Slice", [a, p.ints(0, 0), p.ints(8, 8), p.ints(2, 3), p.ints(2, 2)]);
      const padded = p.next("Pad", [every, p.ints(0, 2, 0, 0, 0, 2, 0, 0)]);
      const b = p.op("b", "Conv", [a, p.weight("b.w", [8, 4, 3, 3], "he")], { pads: [1, 1, 1, 1], strides: [2, 2] });
      return p.classify(p.next("Add", [b, padded]), 8);
    },
    free: ["a.w[0] 4: a.b b.w[0] b.w[1] fc.weight[1]", "b.w[0].0 2: fc.weight[1]", "b.w[0].2 2: fc.weight[1]"],
  },
  "squeeze and excite": {
    model: () => {
      const p = pieces();
      const a = p.next("Relu", [p.conv3("a", p.image(3), [3, 6])]);
      const one = (name: string, x: Value, [into, out]: [number, number]) => p.conv(name, x, [into, out], { kernel: 1 });
      const gate = p.next("Sigmoid", [one("up", p.next("Relu", [one("down", p.next("GlobalAveragePool", [a]), [6, 3])]), [3, 6])]);
      return p.classify(p.next("Mul", [a, gate]), 6);
    },
    free: ["a.w[0] 6: a.b down.weight[1] up.weight[0] up.bias fc.weight[1]", "down.weight[0] 3: down.bias up.weight[1]"],
  },
  "fused by Split": {
    model: () => {
      const p = pieces();
      const qkv = p.linear("qkv", p.tokens(5), [5, 18]);
      const node = p.model.graph.append("Split", [qkv], { name: "split", attrs: { axis: -1 }, outputs: 3 });
      const [q, k, v] = (node.outputs as Value[]).map((y) => heads(p, y, 3, 2)) as [Value, Value, Value];
      return p.ends(p.linear("out", attend(p, q, k, v, 3, 2), [6, 2]));
    },
    free: ["qkv.w[1].0 3: qkv.b out.w[0]", "qkv.w[1].1 2: qkv.b", "qkv.w[1].2 2: qkv.b out.w[0]"],
  },
  "attention by Einsum": {
    model: () => {
      const p = pieces();
      const x = p.tokens(5);
      const split = (name: string) => p.next("Reshape", [p.linear(name, x, [5, 6]), p.ints(0, -1, 3, 2)]);
      const scores = p.next("Einsum", [split("q"), split("k")], { equation: "...qhd,...khd->...hqk" });
      const y = p.next("Einsum", [p.next("Softmax", [scores], { axis: -1 }), split("v")], { equation: "bhqk,bkhd->bqhd" });
      return p.ends(p.linear("out", p.next("Reshape", [y, p.ints(0, -1, 6)]), [6, 2]));
    },
    free: ["q.w[1].0 3: q.b k.w[1] k.b v.w[1] v.b out.w[0]", "q.w[1].1 2: q.b k.w[1] k.b", "v.w[1].1 2: v.b out.w[0]"],
  },
  "U-Net skip": {
    model: () => {
      const p = pieces();
      const a = p.next("Relu", [p.conv3("a", p.image(3), [3, 4])]);
      const low = p.conv3("b", p.next("MaxPool", [a], { kernel_shape: [2, 2], strides: [2, 2] }), [4, 6]);
      const up = p.next("Resize", [low, null, p.model.graph.initializer("scales", tensor("float32", [4], [1, 1, 2, 2]))], {});
      return p.classify(p.conv3("c", p.next("Concat", [up, a], { axis: 1 }), [10, 5]), 5);
    },
    free: ["a.w[0] 4: a.b b.w[1] c.w[1]", "b.w[0] 6: b.b c.w[1]", "c.w[0] 5: c.b fc.weight[1]"],
  },
  "gated MLP": {
    model: () => {
      const p = pieces();
      const x = p.linear("in", p.tokens(5), [5, 6]);
      const gate = p.linear("gate", x, [6, 8]);
      const y = p.next("Mul", [p.next("Mul", [gate, p.next("Sigmoid", [gate])]), p.linear("up", x, [6, 8])]);
      return p.ends(p.linear("out", p.next("Add", [p.linear("down", y, [8, 6]), x]), [6, 2]));
    },
    free: ["in.w[1] 6: in.b gate.w[0] up.w[0] down.w[1] down.b out.w[0]", "gate.w[1] 8: gate.b up.w[1] up.b down.w[0]"],
  },
  "attention, separate": {
    model: () => {
      const p = pieces();
      const x = p.linear("in", p.tokens(5), [5, 6]);
      const [q, k, v] = ["q", "k", "v"].map((name) => heads(p, p.linear(name, x, [6, 12]), 3, 4)) as [Value, Value, Value];
      return p.ends(p.linear("out", attend(p, q, k, v, 3, 4), [12, 2]));
    },
    free: [
      "in.w[1] 6: in.b q.w[0] k.w[0] v.w[0]",
      "q.w[1].0 3: q.b k.w[1] k.b v.w[1] v.b out.w[0]",
      "q.w[1].1 4: q.b k.w[1] k.b",
      "v.w[1].1 4: v.b out.w[0]",
    ],
  },
  "attention, fused": {
    model: () => {
      const p = pieces();
      const qkv = p.next("Transpose", [p.next("Reshape", [p.linear("qkv", p.tokens(5), [5, 36]), p.ints(0, -1, 3, 3, 4)])], {
        perm: [2, 0, 3, 1, 4],
      });
      const [q, k, v] = [0, 1, 2].map((i) =>
        p.next("Gather", [qkv, p.model.graph.initializer("at", tensor("int64", [], [i]))], { axis: 0 }),
      ) as [Value, Value, Value];
      return p.ends(p.linear("out", attend(p, q, k, v, 3, 4), [12, 2]));
    },
    // One Reshape to [3, heads, width]: queries, keys and values have one width.
    free: ["qkv.w[1].0 3: qkv.b out.w[0]", "qkv.w[1].1 4: qkv.b out.w[0]"],
  },
  "grouped queries, rotary": {
    model: () => {
      const p = pieces();
      const x = p.tokens(5);
      const q = rotate(p, heads(p, p.linear("q", x, [5, 24]), 6, 4), 4);
      const k = rotate(p, heads(p, p.linear("k", x, [5, 8]), 2, 4), 4);
      const v = heads(p, p.linear("v", x, [5, 8]), 2, 4);
      const repeat = (y: Value) => {
        const wide = p.next("Expand", [p.next("Unsqueeze", [y, p.ints(2)]), p.ints(1, 1, 3, 1, 1)]);
        return p.next("Reshape", [wide, p.ints(0, 6, -1, 4)]);
      };
      return p.ends(p.linear("out", attend(p, q, repeat(k), repeat(v), 6, 4), [24, 2]));
    },
    free: [
      "q.w[1].0 2: q.b k.w[1] k.b v.w[1] v.b out.w[0]",
      "q.w[1].1 3: q.b out.w[0]",
      "q.w[1].2 2: q.b cos[3] sin[3] k.w[1] k.b cos_1[3] sin_1[3]",
      "v.w[1].1 4: v.b out.w[0]",
    ],
  },
  "DenseNet block": {
    model: () => {
      const p = pieces();
      let x = p.conv3("stem", p.image(3), [3, 4]);
      for (const [i, c] of [4, 6, 8].entries()) {
        const y = p.conv3(`d${i}`, p.next("Relu", [p.norm(`n${i}`, x, c)]), [c, 2]);
        x = p.next("Concat", [x, y], { axis: 1 });
      }
      return p.classify(x, 10);
    },
    free: [
      "stem.w[0] 4: stem.b n0.scale n0.bias n0.mean n0.var d0.w[1] n1.scale n1.bias n1.mean n1.var d1.w[1] n2.scale n2.bias n2.mean n2.var d2.w[1] fc.weight[1]",
      "d0.w[0] 2: d0.b n1.scale n1.bias n1.mean n1.var d1.w[1] n2.scale n2.bias n2.mean n2.var d2.w[1] fc.weight[1]",
      "d1.w[0] 2: d1.b n2.scale n2.bias n2.mean n2.var d2.w[1] fc.weight[1]",
      "d2.w[0] 2: d2.b fc.weight[1]",
    ],
  },
  LSTM: {
    model: () => {
      const p = pieces();
      const x = p.next("Transpose", [p.linear("in", p.tokens(5), [5, 6])], { perm: [1, 0, 2] });
      const weights = [p.weight("W", [2, 16, 6], "glorot"), p.weight("R", [2, 16, 4], "glorot"), p.weight("B", [2, 32], "normal")];
      const y = p.op("lstm", "LSTM", [x, ...weights], { hidden_size: 4, direction: "bidirectional" });
      const flat = p.next("Reshape", [p.next("Transpose", [y], { perm: [0, 2, 1, 3] }), p.ints(0, 0, -1)]);
      return p.ends(p.linear("out", flat, [8, 2]));
    },
    free: ["in.w[1] 6: in.b W[2]", "W[1] 4: R[1] R[2] B[1] out.w[0]"],
  },
  "root mean square norm": {
    model: () => {
      const p = pieces();
      const x = p.linear("in", p.tokens(5), [5, 6]);
      const two = p.model.graph.initializer("two", tensor("float32", [], [2]));
      const small = p.model.graph.initializer("eps", tensor("float32", [], [1e-2]));
      const mean = p.next("ReduceMean", [p.next("Pow", [x, two])], { axes: [-1] });
      const y = p.next("Mul", [p.next("Div", [x, p.next("Sqrt", [p.next("Add", [mean, small])])]), p.weight("g", [6], "he")]);
      const z = p.next("SimplifiedLayerNormalization", [y, p.weight("h", [6], "he")], { axis: -1, epsilon: float(1e-2) });
      return p.ends(p.linear("out", z, [6, 2]));
    },
    free: ["in.w[1] 6: in.b g h out.w[0]"],
  },
};
