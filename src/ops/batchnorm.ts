/** BatchNormalization. */
import type { Value } from "../ir/graph.ts";
import { type DType, sizeOf } from "../tensor/dtype.ts";
import { tensor } from "../tensor/tensor.ts";
import { same } from "./axes.ts";
import { type Build, dtypeOf, shapeOf } from "./build.ts";
import type { Op } from "./op.ts";
import { refused } from "./rule.ts";

/**
 * Y = scale·(X − mean)/√(var + ε) + B per channel (axis 1), with frozen statistics, or (training_mode = 1) those of the batch.
 * Frozen it is affine: dX = scale·r·dY, with r = 1/√(var + ε). With the batch's statistics, over the n values of a channel,
 * dX = scale·r·(dY − dB/n) − scale·r·dscale/n · r·(X − mean), where dB = Σ dY and dscale = r·(Σ dY·X − mean·dB): two more
 * BatchNormalizations (of dY with mean dB/n, of X with scale −scale·r·dscale/n) and an Add, which was raced against plain arithmetic,
 * matrix products and 1×1 convolutions. Sums go over space first, then over the batch.
 * The batch's statistics are read off outputs 2 and 3 where momentum is 0, and computed again where it is not or they are left out.
 */
export const BatchNormalization: Op = {
  axes: (t) => {
    const x = t.input(0);
    same(t, x, t.output(0));
    for (let i = 1; i < 5; i++) t.unify(t.input(i)[0]!, x[1] ?? x[0]!);
    for (let o = 1; o < t.outputs; o++) if (t.gives(o)) t.unify(t.output(o)[0]!, x[1] ?? x[0]!);
    // A channel whose scale and bias are zero is.
    t.zero("biased", [1, 1, 2]);
  },
  vjp({ node, g, needs, b }) {
    const [x, scale, , mean, variance] = node.inputs as [Value, Value, Value, Value, Value];
    const dy = g[0];
    const batch = node.int("training_mode") === 1;
    if (!dy || g.slice(1).some((c) => c)) throw refused(node, "a cotangent of its running statistics");
    if (node.int("spatial") === 0) throw refused(node, "spatial 0");
    if (!batch && node.outputs.filter((o) => o).length > 1) throw refused(node, "training outputs before opset 14");
    const shape = shapeOf(x);
    const channels = shape[1] ?? 1;
    const space = sizeOf(shape.slice(2));
    const n = shape[0]! * space;
    const epsilon = node.attrs.get("epsilon");
    const eps = node.float("epsilon") ?? 1e-5;
    const dtype = dtypeOf(x);
    const number = (v: number) => b.scalar(v, dtype);
    const fill = (v: number) => b.constant(tensor(dtype, [channels], Array<number>(channels).fill(v)), "fill");
    // k·(v − mean)/√(var + ε)
    const normalize = (v: Value, k: Value, mean: Value, variance: Value) =>
      b.op("BatchNormalization", [v, k, fill(0), mean, variance], { epsilon });
    if (!batch && !needs.slice(1).some(Boolean)) return [normalize(dy, scale, fill(0), variance), null, null, null, null];

    const sum = (v: Value) =>
      space === 1 ? b.sum(b.reshape(v, [n, channels]), [0]) : b.sum(b.sum(b.reshape(v, [shape[0]!, channels, space]), [2]), [0]);
    const [mu, sigma2] = batch ? statistics(b, x, node.outputs, node.float("momentum") ?? 0.9, sum, n, shape, dtype) : [mean, variance];
    const deviation = b.op("Sqrt", [b.add(sigma2, number(eps))]);
    const dB = sum(dy);
    const dscale = b.div(b.sub(sum(b.mul(dy, x)), b.mul(mu, dB)), deviation);
    if (!batch) {
      const k1 = b.div(scale, deviation);
      return [
        needs[0] ? normalize(dy, scale, fill(0), variance) : null,
        dscale,
        dB,
        needs[3] ? b.neg(b.mul(k1, dB)) : null,
        needs[4] ? b.mul(b.mul(k1, b.div(dscale, deviation)), number(-0.5)) : null,
      ];
    }
    if (!needs[0]) return [null, dscale, dB, null, null];
    const share = number(1 / n);
    const slope = b.neg(b.mul(b.mul(scale, share), b.div(dscale, deviation)));
    const dx = b.add(normalize(dy, scale, b.mul(dB, share), sigma2), normalize(x, slope, mu, sigma2));
    return [dx, dscale, dB, null, null];
  },
  macs: (node) => {
    const x = node.inputs[0]?.shape;
    return x ? sizeOf(x) : null;
  },
};

/** Mean and (biased) variance of the batch per channel. */
function statistics(
  b: Build,
  x: Value,
  outputs: readonly (Value | null)[],
  momentum: number,
  sum: (v: Value) => Value,
  n: number,
  shape: readonly number[],
  dtype: DType,
): [Value, Value] {
  if (momentum === 0 && outputs[1] && outputs[2]) return [outputs[1], outputs[2]];
  const share = b.scalar(1 / n, dtype);
  const mean = b.mul(sum(x), share);
  const centred = b.sub(x, b.reshape(mean, [1, shape[1]!, ...shape.slice(2).map(() => 1)]));
  return [mean, b.mul(sum(b.mul(centred, centred)), share)];
}
