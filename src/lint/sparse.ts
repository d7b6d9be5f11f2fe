/** Sparse initializers on runtimes. */
import type { Model } from "../ir/graph.ts";
import { sparseIndicesOf } from "../onnx/sparse.ts";
import type { DType } from "../tensor/dtype.ts";
import { sparseInitializers } from "../transform/sparse.ts";
import { type Documented, documented } from "./documented.ts";
import type { Finding } from "./finding.ts";
import { type Measured, measured } from "./runtime.ts";

/** Whether a target takes sparse initializers with such indices, and what that rests on. */
export function sparseOn(target: string, indices: DType): { readonly refused: string | null; readonly basis: string } {
  const m: Measured | undefined = (measured as Readonly<Record<string, Measured>>)[target];
  if (m) {
    const taken = m.facts[`sparse/${indices}`] === 1;
    return { refused: taken ? null : `it does not take them with ${indices} indices`, basis: `measured, ${m.runtime}` };
  }
  const d = documented[target] as Documented;
  if (d.sparse) return d.sparse;
  return { ...sparseOn("node", indices), basis: `${measured.node.runtime}, whose loader goes before` };
}

export function sparseFindings(model: Model, target: string): Finding[] {
  const by = new Map<DType, string[]>();
  let bytes = 0;
  for (const v of sparseInitializers(model)) {
    const indices = sparseIndicesOf(v.data!)!;
    by.set(indices, [...(by.get(indices) ?? []), v.name]);
    bytes += v.data!.data.byteLength;
  }
  const narrow = [...by].filter(([t]) => t !== "int64").flatMap(([, names]) => names);
  const nodes = [...by.values()].flat();
  const refused = new Map<string, Finding>();
  for (const [indices, names] of by) {
    const on = sparseOn(target, indices);
    if (!on.refused) continue;
    const all = [...(refused.get(on.refused)?.nodes ?? []), ...names];
    refused.set(on.refused, { level: "error", what: `sparse initializers: ${on.refused}`, nodes: all, basis: on.basis });
  }
  if (refused.size || nodes.length === 0) return [...refused.values()];
  const out: Finding[] = [
    {
      level: "note",
      what: `${nodes.length} sparse initializers, which are made dense when the file is opened (${(bytes / 1e6).toPrecision(3)} MB): zeros save bytes of the file, and neither memory nor time`,
      nodes,
      basis: sparseOn(target, by.keys().next().value!).basis,
    },
  ];
  if (narrow.length)
    out.push({
      level: "note",
      what: "indices narrower than int64: ONNX Runtime takes them, but the specification asks for int64, and other readers may refuse the file",
      nodes: narrow,
      basis: "onnx.proto, SparseTensorProto",
    });
  return out;
}
