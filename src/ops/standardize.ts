/** What normalizations share: x̂ from x, and x's cotangent from that of x̂. */
import type { Value } from "../ir/graph.ts";
import type { Build } from "./build.ts";

interface Standardized {
  readonly xhat: Value;
  /** 1 / standard deviation, with the axes kept as 1. */
  readonly inv: Value;
}

/** x / √(mean x² + ε) over `axes`. */
export function normalized(b: Build, x: Value, axes: readonly number[], epsilon: Value): Standardized {
  const square = b.reduce("ReduceMean", b.mul(x, x), axes, true);
  const inv = b.op("Reciprocal", [b.op("Sqrt", [b.add(square, epsilon)])]);
  return { xhat: b.mul(x, inv), inv };
}

/** (x − mean x) / √(variance x + ε) over `axes`. */
export function standardized(b: Build, x: Value, axes: readonly number[], epsilon: Value): Standardized {
  return normalized(b, b.sub(x, b.reduce("ReduceMean", x, axes, true)), axes, epsilon);
}

/** x's cotangent from that of x̂: inv·(g − mean g − x̂·mean(g·x̂)); the first mean is there where x was centred. */
export function undo(b: Build, g: Value, xhat: Value, inv: Value, axes: readonly number[], centred: boolean): Value {
  const mean = (v: Value) => b.reduce("ReduceMean", v, axes, true);
  const centre = centred ? b.sub(g, mean(g)) : g;
  return b.mul(inv, b.sub(centre, b.mul(xhat, mean(b.mul(g, xhat)))));
}
