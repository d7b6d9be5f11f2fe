/** The layers an adapter may sit on, and what PEFT would call them. */
import type { Model, Value } from "../../ir/graph.ts";
import { matcher, namesOf, type Selector } from "../../ir/select.ts";
import { Fault } from "../../tensor/fault.ts";
import { transposed, type Weight, weightsOf } from "../../transform/weights.ts";

/** A MatMul or Gemm (or several that share one weight) with a constant matrix. */
export interface Target {
  /** The module's name as PEFT spells it: "encoder.layer.0.q". */
  readonly module: string;
  readonly weight: Weight;
  /** Units that go in and come out. */
  readonly inputs: number;
  readonly outputs: number;
  /** The initializer is [outputs, inputs], as PyTorch keeps it (Gemm with transB), and not [inputs, outputs]. */
  readonly rowsAreOutputs: boolean;
}

/** All layers an adapter may sit on, in graph order, each under a name of its own. Weights in Constant nodes are found once they are lifted. */
export function targetsOf(model: Model): Target[] {
  const taken = new Set<string>();
  return weightsOf(model).flatMap((weight): Target[] => {
    const { value, uses } = weight;
    const ways = uses.map((u) => {
      const swap = transposed(u);
      if (u.node.domain !== "" || !["MatMul", "Gemm"].includes(u.node.opType) || u.input !== 1 || swap === null) return null;
      return swap !== (u.node.opType === "Gemm" && u.node.int("transB") === 1);
    });
    const shape = value.data!.shape;
    const rowsAreOutputs = ways[0];
    // One pair of factors serves all uses only if they all multiply from the same side.
    if (shape.length !== 2 || typeof rowsAreOutputs !== "boolean" || ways.some((w) => w !== rowsAreOutputs)) return [];
    const wish = moduleOf(value, weight);
    let module = wish;
    for (let i = 1; taken.has(module); i++) module = `${wish}_${i}`;
    taken.add(module);
    const [rows, columns] = shape as [number, number];
    return [{ module, weight, inputs: rowsAreOutputs ? columns : rows, outputs: rowsAreOutputs ? rows : columns, rowsAreOutputs }];
  });
}

/**
 * A weight "encoder.layer.0.q.weight" is the module "encoder.layer.0.q"'s. PyTorch's exporter renames the weights of MatMul
 * ("onnx::MatMul_123") but puts the module in the node's name: "/encoder/layer.0/q/MatMul".
 */
function moduleOf(value: Value, { uses }: Weight): string {
  const name = value.name.replace(/_(un)?merged$/, "");
  if (name.endsWith(".weight")) return name.slice(0, -".weight".length);
  const node = uses[0]!.node.name;
  const path = node.startsWith("/") ? node.split("/").slice(1, -1) : [];
  return path.length ? path.join(".") : name;
}

/** The targets a selector names, by module, node, weight or op type. Errors: none. */
export function selectTargets(model: Model, include: Selector, exclude: Selector | null): Target[] {
  const wanted = matcher(include);
  const unwanted = exclude === null ? () => false : matcher(exclude);
  const all = targetsOf(model);
  const selected = all.filter(({ module, weight }) =>
    weight.uses.some(({ node }) => {
      const names = [module, weight.value.name, ...namesOf(node)];
      return wanted(names, node.opType) && !unwanted(names, node.opType);
    }),
  );
  if (selected.length === 0)
    throw new Fault(
      "lora",
      `no MatMul or Gemm with weights matches "${include}"; there are ${all.map((t) => t.module).join(", ") || "none"}`,
    );
  return selected;
}
