/** The dtypes that transformers.js loads: file suffixes, and how each is made. */
import { half, integerOps } from "../techniques/index.ts";
import { transformersBlockList } from "../techniques/quantize/halfops.ts";
import type { Step } from "../techniques/technique.ts";

/** How weights are quantized, beside the dtype; null: the dtype's own. */
export interface Settings {
  /** 8 bits: a scale for each output channel; 7-bit weights. Null: by model type (see {@link perChannelDefault}). */
  readonly perChannel: boolean | null;
  readonly reduceRange: boolean | null;
  /** Columns a scale serves: 32 for q4, q2 and q1, 64 for bnb4. */
  readonly blockSize: number | null;
  readonly symmetric: boolean;
  readonly accuracyLevel: number | null;
  /** bnb4: 0 FP4, 1 NF4. */
  readonly quantType: 0 | 1;
  /** Op types that stay as they are. */
  readonly blockedOps: readonly string[];
  /** Do as the converter of transformers.js 3 did, where pith knows better: see {@link differences}. */
  readonly compat: boolean;
  /** For loaders on ONNX Runtime 1.20 and later only: no workarounds for what older ones could not run. */
  readonly current: boolean;
}

/** What the recipe of a dtype may depend on. */
export interface Facts {
  readonly modelType: string;
  /** Op types of the model, its subgraphs' too. */
  readonly ops: ReadonlySet<string>;
}

export interface Dtype {
  /** `onnx/<base><suffix>.onnx`. */
  readonly suffix: string;
  readonly doc: string;
  readonly steps: (settings: Settings, facts: Facts) => readonly Step[];
  /** Least agreement of the result's outputs with the original's (a cosine that lengths count in), at which it is accepted. */
  readonly agreement: number;
  readonly remark?: string;
}

/** Model types whose 8-bit weights have one scale for the tensor and all 8 bits; others get one per channel and 7 bits. */
const perTensor = new Set(
  (
    "codegen gpt2 gpt_bigcode gptj gpt-neo gpt-neox mpt bloom llama gemma opt mistral falcon phi phi3 qwen2 stablelm starcoder2 openelm mobilellm " +
    "olmo whisper vision-encoder-decoder owlv2 wavlm wav2vec2 unispeech unispeech-sat"
  ).split(" "),
);

/** Default of perChannel and reduceRange alike. */
export function perChannelDefault(modelType: string): boolean {
  return !perTensor.has(modelType);
}

/** Ops whose presence makes q8's weights unsigned, for kernels that older runtimes lack. */
const unsignedFor = ["Conv", "GroupQueryAttention", "MultiHeadAttention"];

const blocked = (ops: readonly string[]) => ops.map((o) => `op:${o}`).join(",");

function eightBits(weights: (s: Settings, f: Facts) => "int8" | "uint8"): Dtype["steps"] {
  return (s, f) => [
    integerOps({
      weights: weights(s, f),
      granularity: (s.perChannel ?? perChannelDefault(f.modelType)) ? "channel" : "tensor",
      reduceRange: s.reduceRange ?? perChannelDefault(f.modelType),
      conv: s.compat ? "integer" : "stored",
      // What the converter could not do or look at: Gemm, and how far a weight moves.
      exclude: blocked([...s.blockedOps, ...(s.compat ? ["Gemm"] : [])]),
      ...(s.compat ? { maxError: 1e9 } : {}),
    }),
  ];
}

/** The ops that older runtimes lack in 16 bits stay float32, unless the loader is current. */
const sixteenBits: Dtype["steps"] = (s) => [
  half({
    ...(s.compat ? { compat: "transformers" } : {}),
    blockOps: [...(s.current ? [] : transformersBlockList), ...s.blockedOps].join(","),
  }),
];

export const dtypes = {
  fp16: { suffix: "_fp16", doc: "16-bit floats inside, float32 inputs and outputs", steps: sixteenBits, agreement: 0.999 },
  q8: {
    suffix: "_quantized",
    doc: "8-bit weights, integer MatMul; signed unless the model has ops that need unsigned ones on older runtimes",
    steps: eightBits((s, f) => (!s.current && unsignedFor.some((o) => f.ops.has(o)) ? "uint8" : "int8")),
    agreement: 0.9,
  },
  int8: { suffix: "_int8", doc: "8-bit signed weights, integer MatMul", steps: eightBits(() => "int8"), agreement: 0.9 },
  uint8: { suffix: "_uint8", doc: "8-bit unsigned weights, integer MatMul", steps: eightBits(() => "uint8"), agreement: 0.9 },
} as const satisfies Record<string, Dtype>;

export type DtypeName = keyof typeof dtypes;

/** What `compat` changes back, for help and README. */
export const differences = [
  "fp16, q4f16: weights beyond 1e4 are clamped, which ruins BatchNormalizations with large variances (pith keeps in float32 what 16 bits cannot hold)",
  "q8, int8, uint8: Convs become ConvInteger (4–8 times slower than float; pith stores their weights in 8 bits and computes in float)",
  "q8, int8, uint8: Gemm stays float; weights that 8 bits change by more than 20 % are quantized all the same",
] as const;

/** The session files among names in `onnx/`: those that are no dtype's output of another one. Without ".onnx". */
export function sessionsIn(names: readonly string[], suffixes: readonly string[] = Object.values(dtypes).map((d) => d.suffix)): string[] {
  const bases = names.filter((n) => n.endsWith(".onnx")).map((n) => n.slice(0, -".onnx".length));
  const have = new Set(bases);
  const all = [...new Set([...suffixes, ...loaderSuffixes])];
  return bases.filter((b) => !all.some((s) => b.endsWith(s) && have.has(b.slice(0, -s.length)))).sort();
}

/** Every suffix that the loader knows. */
const loaderSuffixes = ["_fp16", "_int8", "_uint8", "_quantized", "_q4", "_q2", "_q1", "_q4f16", "_q2f16", "_q1f16", "_bnb4"];
