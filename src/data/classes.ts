/** Numbers for classes that are given by name. */
import { Fault } from "../tensor/fault.ts";

/**
 * The number of every class name: its place in `classes`, or in the sorted (by code unit) names where none are given.
 * Errors: a name that is not among `classes`, a class named twice.
 */
export function classNumbers(where: string, names: Iterable<string>, classes?: readonly string[]): Map<string, number> {
  const order = classes ?? [...new Set(names)].sort();
  const numbers = new Map(order.map((c, i) => [c, i]));
  if (numbers.size !== order.length) throw new Fault(where, `the classes ${order.join(", ")} name one twice`);
  for (const n of names) if (!numbers.has(n)) throw new Fault(where, `"${n}" is none of the classes; they are ${order.join(", ")}`);
  return numbers;
}
