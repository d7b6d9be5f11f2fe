/** Convolutions whose weights change, on ONNX Runtime's blocked NCHWc kernels. */
import type { Model, Node, Value } from "../ir/graph.ts";
import { constantOf } from "../ir/walk.ts";
import { Build } from "../ops/build.ts";
import { blockedDomain } from "../runtime/blocks.ts";

/**
 * Rewrites 2-D float32 Conv nodes with computed or fed weights, and returns how many. The runtime blocks by itself only weights it
 * knows when the session opens; in training it would fall back to im2col: 3×3 at 16 to 64 channels is 1.4 times as fast blocked, 2 with
 * stride 2, depthwise 2.5, the conversions included. Others gain nothing and stay: 1×1, few input channels, channels that are no whole
 * blocks. The result runs on machines with this `block` only: for a session, not for a file. Needs the weights' shapes.
 */
export function blockConvolutions(model: Model, block: number): number {
  const b = Build.of(model, "blocked");
  const { graph } = model;
  const blocked = new Map<Value, Value>();
  const once = (v: Value, make: () => Value) => {
    const have = blocked.get(v) ?? make();
    blocked.set(v, have);
    return have;
  };
  let count = 0;
  for (const node of [...graph.nodes]) {
    const form = formOf(node, block);
    const y = node.outputs[0];
    if (!form || !y || graph.outputs.includes(y)) continue;
    const [x, w, bias] = node.inputs as [Value, Value, Value?];
    const { m, ci, kernel } = form;
    const [outer, inner] = [m / block, form.depthwise ? 1 : ci / block];
    // Filters lie as [outer, inner, kernel, block of inputs, block of outputs].
    const filters = once(w, () => {
      const split = b.reshape(w, [outer, block, inner, ci / inner, kernel[0]!, kernel[1]!]);
      return b.reshape(b.transpose(split, [0, 2, 4, 5, 3, 1]), [m, ci, ...kernel]);
    });
    const input = once(x, () => b.op("ReorderInput", [x], {}, blockedDomain));
    const out = b.op("Conv", bias ? [input, filters, bias] : [input, filters], Object.fromEntries(node.attrs), blockedDomain);
    const plain = b.op("ReorderOutput", [out], { channels: m }, blockedDomain);
    plain.type = y.type;
    y.replaceUses(plain);
    graph.remove(node);
    count++;
  }
  if (count > 0) model.opsets.set(blockedDomain, 1);
  return count;
}

function formOf(node: Node, block: number): { m: number; ci: number; kernel: readonly number[]; depthwise: boolean } | null {
  const w = node.inputs[1];
  const shape = w?.shape;
  if (node.opType !== "Conv" || node.domain !== "" || !shape || constantOf(w) || w.type?.dtype !== "float32" || shape.length !== 4)
    return null;
  const [m, ci, ...kernel] = shape as [number, number, number, number];
  const group = node.int("group") ?? 1;
  const depthwise = ci === 1 && group === m;
  const whole = depthwise ? m % block === 0 : group === 1 && m % block === 0 && ci % block === 0;
  return whole && kernel[0]! * kernel[1]! > 1 ? { m, ci, kernel, depthwise } : null;
}
