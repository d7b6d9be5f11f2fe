/** What a technique leaves as it is, and why: reason → names. */
import type { Node } from "../ir/graph.ts";
import { labelOf } from "../ir/walk.ts";

export function leave(left: Map<string, string[]>, why: string, node: Node): void {
  const names = left.get(why);
  if (names) names.push(labelOf(node));
  else left.set(why, [labelOf(node)]);
}
