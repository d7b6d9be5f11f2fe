/** A newer opset for a model. */
import { cloneModel, type Model, type Node } from "../ir/graph.ts";
import { allGraphs, labelOf } from "../ir/walk.ts";
import { Build } from "../ops/build.ts";
import { Fault } from "../tensor/fault.ts";
import { changes, irVersionOf, newest } from "./opsets.ts";
import { rewrites } from "./rewrites.ts";
import { raiseIrVersion } from "./weights.ts";

/**
 * Raises the model's opset of the default domain to `opset`, subgraphs included: nodes whose op changed its form are written anew, outputs
 * stay equal (op by op in upgrade.test.ts), the IR version becomes what the opset needs. A model that is there already stays as it is.
 * Model-local functions have opsets of their own and are left. Returns what was rewritten, a line for each op.
 * Errors, which leave the model as it was: an op whose form changed in a way that has no rewriting, by name; an opset beyond the newest known.
 */
export function upgrade(model: Model, opset: number): string[] {
  const from = model.opsets.get("") ?? opset;
  if (!Number.isInteger(opset) || opset > newest) throw new Fault("upgrade", `knows opsets up to ${newest}; got ${opset}`);
  if (opset <= from) return [];
  // A Fault halfway must not leave the model half changed.
  rewriteAll(cloneModel(model), from, opset);
  const done = rewriteAll(model, from, opset);
  model.opsets.set("", opset);
  raiseIrVersion(model, irVersionOf(opset));
  return [...done].map(([what, count]) => (count === 1 ? what : `${what} (${count} nodes)`));
}

function rewriteAll(model: Model, from: number, to: number): Map<string, number> {
  const done = new Map<string, number>();
  for (const graph of allGraphs(model.graph)) {
    const b = new Build(graph, to, "upgrade");
    for (const node of [...graph.nodes]) {
      if (node.domain !== "") continue;
      for (const what of rewrite(node, b, from, to)) done.set(what, (done.get(what) ?? 0) + 1);
    }
  }
  return done;
}

function* rewrite(node: Node, b: Build, from: number, to: number): Generator<string> {
  const known = changes.get(node.opType);
  if (!known?.some((c) => c.version <= from))
    throw new Fault(
      "upgrade",
      `${node.opType} (node "${labelOf(node)}") is no op of opset ${from} that is known here, so it cannot be said what opset ${to} would make of it`,
    );
  if (from < 6) node.attrs.delete("consumed_inputs");
  for (let version = from + 1; version <= to; version++) {
    const change = changes.get(node.opType)?.find((c) => c.version === version)?.change;
    if (!change || change === "compatible") continue;
    const old = `${node.opType} ${version}`;
    const how = rewrites[old];
    if (change === "blocked" || !how)
      throw new Fault(
        "upgrade",
        `${node.opType} (node "${labelOf(node)}") changed in opset ${version} in a way that has no rewriting; stay below it`,
      );
    how(node, b);
    yield old;
  }
}
