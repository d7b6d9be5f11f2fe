/** Layers for nets from code: each appends nodes to one model, with weights drawn from the net's seed and the weight's own name. */
import { type AttrInput, type Dim, float, type Model, newModel, type Value } from "../ir/graph.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { random } from "../tensor/random.ts";
import { tensor } from "../tensor/tensor.ts";

export interface Net {
  readonly model: Model;
  /** A node of that name; its first output. */
  op(name: string, opType: string, inputs: readonly (Value | null)[], attrs?: Readonly<Record<string, AttrInput>>): Value;
  /** A float32 weight: `he` is N(0, 2/fan in) (He et al. 2015), for layers before a Relu; `glorot` U(±√(6/(fan in + fan out))) (Glorot, Bengio 2010); `normal` N(0, 0.02²), for embeddings; a number fills it. */
  weight(name: string, shape: readonly number[], how: "he" | "glorot" | "normal" | number): Value;
  /** x·Wᵀ + b: weights "<name>.weight" [out, in] and, unless `bias` is false, "<name>.bias" (0). */
  dense(name: string, x: Value, units: readonly [number, number], how?: "he" | "glorot", bias?: boolean): Value;
  /** Square kernel, weights "<name>.weight" [out, in, k, k]; with a bias unless `bias` is false. */
  conv(name: string, x: Value, channels: readonly [number, number], options: ConvOptions): Value;
  /** BatchNormalization with its weights at 1 and 0, statistics at 0 and 1. */
  batchNorm(name: string, x: Value, channels: number): Value;
  relu(name: string, x: Value): Value;
  /** Nothing if `ratio` is 0. */
  dropout(name: string, x: Value, ratio: number): Value;
  /** Ends the net: `x` becomes its output "logits", of `shape`. */
  done(x: Value, shape: readonly Dim[]): Model;
}

export interface ConvOptions {
  readonly kernel: number;
  readonly stride?: number;
  readonly pad?: number;
  readonly bias?: boolean;
}

/** An empty net, of opset 17 unless it needs more. */
export function net(name: string, seed: number, opset = 17): Net {
  const model = newModel(name, opset, opset > 18 ? 9 : 8);
  const { graph } = model;
  const self: Net = {
    model,
    op: (name, opType, inputs, attrs = {}) => graph.append(opType, inputs, { name, attrs, outputs: [`${name}.out`] }).outputs[0]!,
    weight(name, shape, how) {
      const values = new Float32Array(sizeOf(shape));
      const r = random(seed, `init/${name}`);
      // Weights are [out, in, …]: whatever follows counts for both.
      const field = sizeOf(shape.slice(2));
      const [out, into] = [shape[0]! * field, (shape[1] ?? 1) * field];
      if (how === "he") r.fillNormal(values, Math.sqrt(2 / into));
      else if (how === "glorot") r.fillUniform(values, -Math.sqrt(6 / (into + out)), Math.sqrt(6 / (into + out)));
      else if (how === "normal") r.fillNormal(values, 0.02);
      else values.fill(how);
      return graph.initializer(name, tensor("float32", shape, values));
    },
    dense(name, x, [into, out], how = "he", bias = true) {
      const w = self.weight(`${name}.weight`, [out, into], how);
      return self.op(name, "Gemm", bias ? [x, w, self.weight(`${name}.bias`, [out], 0)] : [x, w], { transB: 1 });
    },
    conv(name, x, [into, out], { kernel: k, stride = 1, pad = 0, bias = true }) {
      const w = self.weight(`${name}.weight`, [out, into, k, k], "he");
      const inputs = bias ? [x, w, self.weight(`${name}.bias`, [out], 0)] : [x, w];
      return self.op(name, "Conv", inputs, { kernel_shape: [k, k], strides: [stride, stride], pads: [pad, pad, pad, pad] });
    },
    batchNorm(name, x, c) {
      const parts = [
        self.weight(`${name}.weight`, [c], 1),
        self.weight(`${name}.bias`, [c], 0),
        self.weight(`${name}.running_mean`, [c], 0),
        self.weight(`${name}.running_var`, [c], 1),
      ];
      return self.op(name, "BatchNormalization", [x, ...parts], { epsilon: float(1e-5), momentum: float(0.9) });
    },
    relu: (name, x) => self.op(name, "Relu", [x]),
    dropout: (name, x, ratio) =>
      ratio === 0 ? x : self.op(name, "Dropout", [x, graph.initializer(`${name}.ratio`, tensor("float32", [], [ratio]))]),
    done(x, shape) {
      const node = x.producer!;
      const logits = graph.value("logits", { dtype: "float32", shape });
      node.outputs[0] = logits;
      logits.producer = node;
      graph.addOutput(logits);
      return model;
    },
  };
  return self;
}
