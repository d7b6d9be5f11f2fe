/** All ops: an export's name is its registration. */
import type { Node } from "../ir/graph.ts";
import type { Op } from "./op.ts";

const domains: Record<string, Record<string, Op>> = {
  "": {},
  "com.microsoft": {},
};

/** What is known of a node's op; undefined for an op pith does not know. */
export function opOf(node: Node): Op | undefined {
  const ops = domains[node.domain];
  return ops && Object.hasOwn(ops, node.opType) ? ops[node.opType] : undefined;
}
