/** Adding rows of a tensor up where a list of ids says. */
import type { Value } from "../ir/graph.ts";
import type { Build } from "./build.ts";

/**
 * `into` with slice j of `rows` along `axis` added at ids[j], repeated ids included. By ScatterElements: ScatterND's sum loses updates
 * where ids repeat and the runtime has more than one thread.
 *
 * @param ids int64 [n]; negative ones count from the end
 * @param shape the shape of `rows`: that of `into` with n on `axis`
 */
export function scatterAdd(b: Build, into: Value, ids: Value, rows: Value, axis: number, shape: readonly number[]): Value {
  const laid = b.reshape(
    ids,
    shape.map((_, i) => (i === axis ? -1 : 1)),
  );
  return b.op("ScatterElements", [into, b.expand(laid, shape), rows], { axis, reduction: "add" });
}
