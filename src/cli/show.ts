/** pith show: what a model is made of. */
import { basename } from "node:path";
import { Command } from "commander";
import type { Model, Value } from "../ir/graph.ts";
import { printModel, printType } from "../ir/print.ts";
import { select } from "../ir/select.ts";
import { labelOf } from "../ir/walk.ts";
import { parametersOf } from "../measure/parameters.ts";
import { fileBytes, load } from "../onnx/file.ts";
import { opOf } from "../ops/index.ts";
import { bytes, count, grouped, share } from "../report/format.ts";
import { type PortSummary, portsOf, type Summary, summarize } from "../report/summary.ts";
import { type Column, table } from "../report/table.ts";
import { observeShapes, sampleFeeds } from "../runtime/shapes.ts";
import { Fault } from "../tensor/fault.ts";
import { liftConstants } from "../transform/fold.ts";
import { findGroups } from "../transform/groups.ts";
import { residualBlocks } from "../transform/residual.ts";
import { groupsJson, groupsText } from "./groups.ts";
import { bold, dim, print } from "./terminal.ts";
import { repeated, shape } from "./usage.ts";

interface Options {
  readonly json?: true;
  readonly graph?: true;
  readonly blocks?: true;
  readonly groups?: true;
  readonly all?: true;
  readonly select?: string;
  readonly shape?: readonly (readonly [string, readonly number[]])[];
}

export const show = new Command("show")
  .description("what a model is made of: inputs, outputs, ops, parameters, multiply-accumulates, bytes, gradients")
  .argument("<model>", "an ONNX file")
  .option("--json", "as JSON")
  .option("--graph", "the whole graph as text")
  .option("--blocks", "residual blocks: what depth removes")
  .option("--groups", "the groups of channels that structured pruning removes together, and why others cannot be pruned")
  .option("--all", "with --groups: name every axis that is kept whole")
  .option("--select <selector>", "only list the nodes a selector matches, e.g. '*attn*,op:Conv,!/head/*'")
  .option(
    "--shape <name=1x3x48x320>",
    "an input's shape, where the model leaves it open, to count multiply-accumulates or find groups (repeatable)",
    repeated(shape),
  )
  .action(async (path: string, options: Options) => {
    const model = load(path);
    if (options.select !== undefined)
      return print(options.json ? JSON.stringify(selected(model, options.select), null, 2) : selection(model, options.select));
    if (options.graph) return print(printModel(model));
    if (options.blocks) {
      liftConstants(model);
      return print(blocks(await withShapes(model, options.shape), basename(path), options.json));
    }
    if (options.groups) {
      const { groups } = await findGroups(model, sampleFeeds(model, { shape: Object.fromEntries(options.shape ?? []) }));
      return print(options.json ? JSON.stringify(groupsJson(groups), null, 2) : groupsText(groups, options.all ?? false));
    }
    const { model: shaped, shapes } = await withShapes(model, options.shape);
    const summary = { ...summarize(shaped), ...declared(model, shaped) };
    const size = fileBytes(path);
    print(
      options.json
        ? JSON.stringify({ file: basename(path), fileBytes: size, shapes, ...summary }, null, 2)
        : text(basename(path), size, summary, shapes),
    );
  });

/** Ports as the model declares them; where it says nothing, as they were seen. */
function declared(model: Model, shaped: Model): Pick<Summary, "inputs" | "outputs"> {
  const { inputs, outputs } = portsOf(model);
  const seen = portsOf(shaped).outputs;
  return { inputs, outputs: outputs.map((p, i) => (p.dtype ? p : seen[i]!)) };
}

type Shapes = Readonly<Record<string, readonly number[]>>;

/**
 * The model with concrete shapes, seen on one run of a sample, and the input shapes of that run. Without `given` a model whose open
 * dimensions are more than the batch, or that does not run at batch 1, stays as it is: nothing was promised.
 */
async function withShapes(model: Model, given: Options["shape"]): Promise<{ model: Model; shapes: Shapes | null }> {
  const inputs = model.graph.inputs.filter((v) => !v.data);
  if (!given && !inputs.every((v) => v.type?.shape?.every((d, i) => typeof d === "number" || i === 0))) return { model, shapes: null };
  try {
    const feeds = sampleFeeds(model, { shape: Object.fromEntries(given ?? []) });
    const shaped = await observeShapes(model, feeds);
    return { model: shaped, shapes: Object.fromEntries(Object.entries(feeds).map(([name, t]) => [name, t.shape])) };
  } catch (e) {
    if (given || !(e instanceof Fault)) throw e;
    return { model, shapes: null };
  }
}

function selected(model: Model, selector: string) {
  return select(model.graph, selector).map((n) => ({
    name: labelOf(n),
    op: n.domain ? `${n.domain}.${n.opType}` : n.opType,
    weights: n.inputs.filter((v) => v?.data).map((v) => ({ name: v!.name, type: printType(v!.type) })),
  }));
}

function selection(model: Model, selector: string): string {
  const nodes = selected(model, selector);
  const all = select(model.graph, "*").length;
  const rows = nodes.map((n) => [n.name, n.op, n.weights.map((w) => `${w.name} ${w.type}`).join("  ")]);
  const head = `"${selector}" matches ${nodes.length} of ${all} nodes`;
  return nodes.length ? `${head}\n\n${table([{ title: "node" }, { title: "op" }, { title: "weights" }], rows)}` : head;
}

/** The residual blocks, each with what goes with it. */
function blocks({ model, shapes }: { model: Model; shapes: Shapes | null }, name: string, json?: true): string {
  if (!shapes) throw new Fault(name, `leaves shapes open; give them, e.g. --shape ${example(portsOf(model).inputs)}`);
  const found = residualBlocks(model, (v) => v.shape).map((b) => ({
    name: b.name,
    attention: b.attention,
    nodes: b.nodes.length,
    parameters: b.weights.reduce((n, v) => n + parametersOf({ name: v.name, tensor: v.data!, readers: readersOf(v) }), 0),
    macs: b.nodes.reduce((n, node) => n + (opOf(node)?.macs?.(node) ?? 0), 0),
    skip: b.skip.name,
  }));
  if (json) return JSON.stringify(found, null, 2);
  if (found.length === 0) return "no residual blocks: no Add of a value and what weights make of it";
  const right = (title: string): Column => ({ title, align: "right" });
  const columns: Column[] = [
    { title: "block" },
    { title: "" },
    right("nodes"),
    right("parameters"),
    right("MACs"),
    { title: "what stays without it" },
  ];
  const rows = found.map((b) => [b.name, b.attention ? "attention" : "", String(b.nodes), count(b.parameters), count(b.macs), b.skip]);
  return table(columns, rows);
}

const readersOf = (v: Value) => [...v.uses].flatMap((u) => ("node" in u ? [u.node] : []));

function example(inputs: readonly PortSummary[]): string {
  const open = inputs.find((p) => !p.shape?.every((d) => typeof d === "number")) ?? inputs[0];
  return `${open?.name ?? "x"}=${open?.shape?.map((d, i) => (typeof d === "number" ? d : i === 0 ? 1 : 32)).join("x") ?? "1x3x224x224"}`;
}

function text(name: string, size: number, s: Summary, shapes: Shapes | null): string {
  const opsets = Object.entries(s.opsets).map(([domain, v]) => (domain ? `${domain} ${v}` : `opset ${v}`));
  const port = (kind: string) => (p: PortSummary) => [kind, p.name, p.dtype ? printType({ dtype: p.dtype, shape: p.shape }) : "?"];
  const ports = [...s.inputs.map(port("in")), ...s.outputs.map(port("out"))];
  const facts = [
    `${grouped(s.nodes)} nodes`,
    `${grouped(s.parameters)} parameters`,
    `${bytes(s.bytes)} of weights`,
    ...(s.macs === null
      ? []
      : [
          `${count(s.macs)} multiply-accumulates at ${Object.entries(shapes ?? {})
            .map(([n, d]) => `${n}=${d.join("x")}`)
            .join(" ")}`,
        ]),
  ];
  const opColumns: Column[] = [
    { title: "op" },
    { title: "nodes", align: "right" },
    { title: "parameters", align: "right" },
    { title: "bytes", align: "right" },
    { title: "share", align: "right" },
    ...(s.macs === null ? [] : [{ title: "MACs", align: "right" } as const]),
    { title: "gradient" },
  ];
  const opRows = s.ops.map((o) => [
    o.domain ? `${o.domain}.${o.op}` : o.op,
    String(o.count),
    o.parameters ? count(o.parameters) : "",
    o.bytes ? bytes(o.bytes) : "",
    o.bytes ? share(o.bytes, s.bytes) : "",
    ...(s.macs === null ? [] : [o.macs === null ? "" : count(o.macs)]),
    o.gradient,
  ]);
  const lines = [
    `${bold(name)}  ${dim([bytes(size), `IR ${s.irVersion}`, ...opsets, ...(s.producer ? [`by ${s.producer}`] : [])].join(" · "))}`,
    "",
    ...ports.map(([kind, n, type]) => `  ${kind!.padEnd(3)}  ${n!.padEnd(Math.max(...ports.map((p) => p[1]!.length)))}  ${type}`),
    "",
    `  ${facts.join(" · ")}`,
    "",
    table(opColumns, opRows, "  "),
    "",
    table(
      [
        { title: "stored as" },
        { title: "tensors", align: "right" },
        { title: "parameters", align: "right" },
        { title: "bytes", align: "right" },
      ],
      s.dtypes.map((d) => [d.dtype, String(d.tensors), d.parameters ? count(d.parameters) : "", bytes(d.bytes)]),
      "  ",
    ),
  ];
  const more = [
    ...(shapes ? [] : [`give the open inputs' shapes, e.g. --shape ${example(s.inputs)}, to see multiply-accumulates`]),
    ...s.subgraphs.map((g) => `${g.op}: ${g.graphs} subgraphs with ${g.nodes} nodes, counted above`),
    ...(s.functions.length ? [`functions: ${s.functions.join(", ")}`] : []),
    ...(s.externalFiles.length ? [`external data: ${s.externalFiles.join(", ")}`] : []),
  ];
  if (more.length) lines.push("", ...more.map((m) => `  ${m}`));
  return lines.join("\n");
}
