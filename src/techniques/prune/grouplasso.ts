/** Group lasso: a penalty that draws whole groups of coupled channels to zero, in the loss graph. */
import type { Value } from "../../ir/graph.ts";
import { find } from "../../ir/walk.ts";
import type { Build } from "../../ops/build.ts";
import { dtypes, isFloat } from "../../tensor/dtype.ts";
import { tensor } from "../../tensor/tensor.ts";
import type { Loss } from "../../train/loss.ts";
import type { Group, Member } from "../../transform/groups.ts";

/** Keeps the root's gradient finite at zero. */
const epsilon = 1e-12;

/**
 * Σ over groups and their indices of √n·‖w of the index‖₂, n its elements (Yuan, Lin 2006; Wen et al. 2016): over all weights that an index
 * runs through together, so that what would be removed together shrinks together. Weights of two and more dimensions count; biases and
 * scales follow.
 */
export function groupLasso(groups: readonly Group[]): Loss {
  return {
    name: "groupLasso",
    attach({ b }) {
      const parts = groups.flatMap((g) => {
        const members = g.members.filter(penalized);
        if (members.length === 0) return [];
        const squares = members.map((m) => squaresOf(b, m, g.size)).reduce((a, z) => b.add(a, z));
        const elements = members.reduce((n, m) => n + elementsOf(m), 0) / g.size;
        const norms = b.op("Sqrt", [b.add(squares, b.f32(epsilon))]);
        return [b.mul(b.op("ReduceSum", [norms], { keepdims: 0 }), b.f32(Math.sqrt(elements)))];
      });
      return { value: parts.length ? parts.reduce((a, z) => b.add(a, z)) : b.f32(0), pairs: [], roots: [] };
    },
  };
}

function penalized({ value, role }: Member): boolean {
  return role !== "along" && value.data !== null && isFloat(value.data.dtype) && value.data.shape.length > 1;
}

/** Elements of the member that belong to the group. */
function elementsOf({ value, axis, coordinate }: Member): number {
  const { shape } = value.data!;
  const inside = coordinate.reduce((n, i) => n + (i >= 0 ? 1 : 0), 0);
  return shape.reduce((n, d, a) => n * (a === axis ? inside : d), 1);
}

/** Σ w² by index: [size]. */
function squaresOf(b: Build, { value, axis, coordinate }: Member, size: number): Value {
  const stored = find(b.graph, value.name)!;
  const { dtype, shape } = value.data!;
  const w = dtype === "float32" ? stored : b.op("Cast", [stored], { to: dtypes.float32.code });
  const by = b.sum(
    b.mul(w, w),
    shape.flatMap((_, a) => (a === axis ? [] : [a])),
  );
  if (coordinate.length === size && coordinate.every((i, p) => i === p)) return by;
  // Positions → indices, by a matrix of ones and zeros.
  const to = new Float32Array(coordinate.length * size);
  coordinate.forEach((i, p) => {
    if (i >= 0) to[p * size + i] = 1;
  });
  const rows = b.reshape(by, [1, coordinate.length]);
  return b.reshape(b.matmul(rows, b.constant(tensor("float32", [coordinate.length, size], to), "indices")), [size]);
}
