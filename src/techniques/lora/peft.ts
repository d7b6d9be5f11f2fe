/** Adapters in the files of Hugging Face PEFT: adapter_config.json and adapter_model.safetensors. */
import { readSafetensors, writeSafetensors } from "../../data/safetensors.ts";
import { Fault } from "../../tensor/fault.ts";
import { numbersOf, type Tensor, tensor } from "../../tensor/tensor.ts";
import { type Adapter, type Pair, scalingOf } from "./adapter.ts";

/** The two files' names. */
export const configFile = "adapter_config.json";
export const weightsFile = "adapter_model.safetensors";

const prefix = "base_model.model.";

/** The two files of an adapter. `base` says what model it is for (a name or a path). The same adapter gives the same bytes. */
export function writePeft(adapter: Adapter, base: string | null = null): { readonly config: string; readonly weights: Uint8Array } {
  const { rank, alpha, dropout, rslora, pairs } = adapter;
  const different = (of: (p: Pair) => number, usual: number) =>
    Object.fromEntries(pairs.filter((p) => of(p) !== usual).map((p) => [p.module, of(p)]));
  // The fields PEFT has had since it knows rank patterns (0.5) and rsLoRA (0.8), in the order it writes them: sorted.
  const config = {
    alpha_pattern: different((p) => p.alpha, alpha),
    auto_mapping: null,
    base_model_name_or_path: base,
    bias: "none",
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    layers_pattern: null,
    layers_to_transform: null,
    lora_alpha: alpha,
    lora_dropout: dropout,
    modules_to_save: null,
    peft_type: "LORA",
    r: rank,
    rank_pattern: different((p) => p.a.shape[0]!, rank),
    revision: null,
    target_modules: pairs.map((p) => p.module),
    task_type: null,
    use_rslora: rslora,
  };
  const tensors = pairs.flatMap(({ module, a, b }): [string, Tensor][] => [
    [`${prefix}${module}.lora_A.weight`, a],
    [`${prefix}${module}.lora_B.weight`, b],
  ]);
  return { config: JSON.stringify(config, null, 2), weights: writeSafetensors(new Map(tensors), { format: "pt" }) };
}

/**
 * The adapter in PEFT's two files. Errors: another method than plain LoRA (DoRA, trained biases, saved modules, embeddings, convolutions),
 * a factor without its partner, shapes that do not fit each other.
 */
export function readPeft(config: string, weights: Uint8Array, where = "adapter"): Adapter {
  const fault = (what: string) => new Fault(`${where}/${configFile}`, what);
  let c: Record<string, unknown>;
  try {
    c = JSON.parse(config) as Record<string, unknown>;
  } catch (e) {
    throw new Fault(`${where}/${configFile}`, "is not JSON", { cause: e });
  }
  if (typeof c !== "object" || c === null || Array.isArray(c)) throw fault("is not a JSON object");
  if (c.peft_type !== "LORA") throw fault(`describes a ${JSON.stringify(c.peft_type)} adapter; LORA would be right`);
  if ((c.bias ?? "none") !== "none" || c.lora_bias)
    throw fault(`has trained biases (bias ${JSON.stringify(c.bias)}); "none" would be right`);
  for (const key of ["use_dora", "use_qalora", "modules_to_save", "layer_replication", "trainable_token_indices"]) {
    const v = c[key];
    if (v && (!Array.isArray(v) || v.length)) throw fault(`uses ${key}, which is not supported; got ${JSON.stringify(v)}`);
  }
  const size = (key: string, fallback: number) => {
    const v = c[key] ?? fallback;
    if (typeof v !== "number" || !(v >= 0) || v === Infinity) throw fault(`has ${key} ${JSON.stringify(v)}; a number would be right`);
    return v;
  };
  const rank = size("r", 8);
  const alpha = size("lora_alpha", 8);
  const dropout = size("lora_dropout", 0);
  const alphas = patterns(c.alpha_pattern, fault);
  const factors = new Map<string, { a?: Tensor; b?: Tensor }>();
  for (const [name, t] of readSafetensors(weights, `${where}/${weightsFile}`).tensors) {
    const m = /^(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight$/.exec(name);
    if (!m) throw new Fault(`${where}/${weightsFile}`, `holds "${name}"; only lora_A.weight and lora_B.weight would be right`);
    const [, module, which] = m as unknown as [string, string, "A" | "B"];
    if (t.shape.length !== 2)
      throw new Fault(`${where}/${weightsFile}`, `"${name}" is [${t.shape}]; factors of a linear layer have two axes`);
    factors.set(module, { ...factors.get(module), [which === "A" ? "a" : "b"]: tensor("float32", t.shape, numbersOf(t)) });
  }
  if (factors.size === 0) throw new Fault(`${where}/${weightsFile}`, "holds no factors");
  const pairs = [...factors].map(([module, { a, b }]): Pair => {
    if (!a || !b) throw new Fault(`${where}/${weightsFile}`, `"${module}" has only one of its two factors`);
    if (a.shape[0] !== b.shape[1] || a.shape[0] === 0)
      throw new Fault(`${where}/${weightsFile}`, `"${module}" has A [${a.shape}] and B [${b.shape}], whose ranks differ`);
    return { module, a, b, alpha: alphas(module) ?? alpha };
  });
  pairs.sort((p, q) => (p.module < q.module ? -1 : 1));
  const adapter = { pairs, rank, alpha, dropout, rslora: c.use_rslora === true };
  for (const p of pairs) if (!Number.isFinite(scalingOf(adapter, p))) throw fault(`gives "${p.module}" no finite scaling`);
  return adapter;
}

/** A pattern table of PEFT: names, or ends of names, to numbers. Its regular expressions are a stranger's and are not run. */
function patterns(raw: unknown, fault: (what: string) => Fault): (module: string) => number | undefined {
  const entries = Object.entries((raw ?? {}) as Record<string, unknown>);
  for (const [pattern, value] of entries) {
    if (typeof value !== "number") throw fault(`alpha_pattern "${pattern}" is ${JSON.stringify(value)}; a number would be right`);
    if (/[\\^$*+?()[\]{}|]/.test(pattern))
      throw fault(`alpha_pattern "${pattern}" is a regular expression; a module's name would be right`);
  }
  return (module) => entries.find(([p]) => module === p || module.endsWith(`.${p}`))?.[1] as number | undefined;
}
