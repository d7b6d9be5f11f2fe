/** Texts in JSON Lines, as a Hugging Face tokenizer's numbers. By the optional package @huggingface/tokenizers. */
import { Fault } from "../tensor/fault.ts";
import { type Tensor, tensor } from "../tensor/tensor.ts";
import { classNumbers } from "./classes.ts";
import { limits } from "./limits.ts";
import { peer } from "./peer.ts";

interface Line {
  readonly text: string;
  readonly pair: string | null;
  readonly label: number | string | null;
}

/** The objects of a `.jsonl` text: `text`, perhaps `text_pair`, and `label` (or `labels`). Errors: by line. */
function linesOf(source: string, where: string): Line[] {
  const lines: Line[] = [];
  source.split("\n").forEach((row, i) => {
    if (row.trim() === "") return;
    const at = `${where}:${i + 1}`;
    let o: Record<string, unknown>;
    try {
      o = JSON.parse(row);
    } catch (e) {
      throw new Fault(at, 'is not JSON; a line like {"text": "…", "label": 0} would be right', { cause: e });
    }
    const { text, text_pair: pair = null, label = o?.labels ?? null } = o ?? {};
    if (typeof text !== "string") throw new Fault(at, `"text" must be a string; got ${JSON.stringify(text)}`);
    if (pair !== null && typeof pair !== "string") throw new Fault(at, `"text_pair" must be a string; got ${JSON.stringify(pair)}`);
    if (label !== null && typeof label !== "string" && typeof label !== "number")
      throw new Fault(at, `"label" must be a number or a class name; got ${JSON.stringify(label)}`);
    const [first] = lines;
    if (first && typeof first.label !== typeof label)
      throw new Fault(at, `its label must be like the first line's, ${JSON.stringify(first.label)}; got ${JSON.stringify(label)}`);
    lines.push({ text, pair, label });
  });
  if (lines.length === 0) throw new Fault(where, "holds no lines");
  return lines;
}

function labelsOf(lines: readonly Line[], where: string, classes?: readonly string[]): Record<string, Tensor> {
  const labels = lines.map((l) => l.label);
  if (typeof labels[0] === "string") {
    const numbers = classNumbers(where, labels as string[], classes);
    return {
      labels: tensor(
        "int64",
        [labels.length],
        (labels as string[]).map((l) => numbers.get(l)!),
      ),
    };
  }
  if (typeof labels[0] !== "number") return {};
  const whole = labels.every(Number.isInteger);
  return { labels: tensor(whole ? "int64" : "float32", [labels.length], labels as number[]) };
}

/** What is read of `tokenizer.json`, beside what the package reads. */
interface TokenizerJson {
  readonly padding?: { readonly direction?: string; readonly pad_id?: number; readonly pad_token?: string } | null;
  readonly truncation?: { readonly max_length?: number } | null;
}

/** What is used of the package's Tokenizer. */
interface Encoder {
  encode(
    text: string,
    options: { readonly text_pair?: string | null; readonly add_special_tokens?: boolean; readonly return_token_type_ids?: boolean },
  ): { readonly ids: readonly number[]; readonly token_type_ids?: readonly number[] };
  token_to_id(token: string): number | undefined;
}

export interface TextOptions {
  /** Tokens a text is cut or padded to. Default: the longest text's, at most what the tokenizer's own files allow. */
  readonly length?: number;
}

/** A tokenizer's files, parsed: `tokenizer.json`, and `tokenizer_config.json` or {}. */
export interface TokenizerFiles {
  readonly where: string;
  readonly json: unknown;
  readonly config: unknown;
}

/**
 * `source`, JSON Lines, as `input_ids`, `attention_mask` and `token_type_ids` int64 [n, length], and `labels` [n] where there are some: int64
 * (names get their number in `classes`, default their sorted names), or float32 where one is not whole. Longer texts lose tokens at their
 * end, of two the longer one first, never the special ones. Errors: by line, the package is not installed, not a tokenizer.
 */
export async function tokenize(
  source: string,
  where: string,
  files: TokenizerFiles,
  { length, classes }: TextOptions & { readonly classes?: readonly string[] } = {},
): Promise<Record<string, Tensor>> {
  if (length !== undefined && !(Number.isInteger(length) && length >= 1))
    throw new Fault(where, `a length must be a whole number of at least 1; got ${length}`);
  const lines = linesOf(source, where);
  const labels = labelsOf(lines, where, classes);
  const { Tokenizer } = await peer(where, "@huggingface/tokenizers", () => import("@huggingface/tokenizers"));
  let tokenizer: Encoder;
  try {
    tokenizer = new Tokenizer(files.json as object, files.config as object);
  } catch (e) {
    throw new Fault(files.where, `is no tokenizer: ${(e as Error).message}`, { cause: e });
  }
  const json = files.json as TokenizerJson;
  const config = files.config as { readonly model_max_length?: number; readonly padding_side?: string; readonly pad_token?: unknown };
  // Configurations without a bound write 1e30.
  const own = Math.min(json.truncation?.max_length ?? Infinity, config.model_max_length ?? Infinity);
  const most = length ?? (own < 1e9 ? own : Infinity);
  const encoded = lines.map(({ text, pair }) => {
    const { ids, token_type_ids: types = [] } = tokenizer.encode(text, { text_pair: pair, return_token_type_ids: true });
    if (ids.length <= most) return { ids, types };
    const plain = (s: string) => tokenizer.encode(s, { add_special_tokens: false }).ids;
    const keep = kept(ids, [plain(text), pair === null ? [] : plain(pair)], most, where);
    return { ids: keep.map((i) => ids[i]!), types: keep.map((i) => types[i] ?? 0) };
  });
  const width = length ?? encoded.reduce((n, { ids }) => Math.max(n, ids.length), 1);
  const cells = encoded.length * width;
  if (cells * 24 > limits.unpacked)
    throw new Fault(
      where,
      `${encoded.length} texts of ${width} tokens take ${cells * 24} bytes of memory; the limit is ${limits.unpacked}`,
    );
  const left = (config.padding_side ?? json.padding?.direction ?? "right").toLowerCase() === "left";
  const pad = json.padding?.pad_id ?? padOf(tokenizer, json.padding?.pad_token ?? config.pad_token);
  const arrays = [new BigInt64Array(cells).fill(BigInt(pad)), new BigInt64Array(cells), new BigInt64Array(cells)] as const;
  encoded.forEach(({ ids, types }, row) => {
    const start = row * width + (left ? width - ids.length : 0);
    ids.forEach((id, i) => {
      arrays[0][start + i] = BigInt(id);
      arrays[1][start + i] = 1n;
      arrays[2][start + i] = BigInt(types[i] ?? 0);
    });
  });
  const [input_ids, attention_mask, token_type_ids] = arrays.map((a) => tensor("int64", [encoded.length, width], a));
  return { input_ids: input_ids!, attention_mask: attention_mask!, token_type_ids: token_type_ids!, ...labels };
}

/** The padding token's number; 0, under a mask of 0, where there is none. */
function padOf(tokenizer: Encoder, told: unknown): number {
  const name = typeof told === "object" && told !== null ? (told as { content?: unknown }).content : told;
  for (const token of [name, "[PAD]", "<pad>"]) {
    const id = typeof token === "string" ? tokenizer.token_to_id(token) : undefined;
    if (id !== undefined) return id;
  }
  return 0;
}

/** The places that stay of `ids`, the texts' tokens with special ones around: as many as `length`, chosen as the Rust tokenizers do (longest first). */
function kept(ids: readonly number[], texts: readonly [readonly number[], readonly number[]], length: number, where: string): number[] {
  const [a, b] = texts;
  const find = (part: readonly number[], from: number) => {
    for (let at = from; at + part.length <= ids.length; at++) if (part.every((id, i) => ids[at + i] === id)) return at;
    throw new Fault(where, `cannot be cut to ${length} tokens: this tokenizer's tokens depend on the special ones`);
  };
  const startA = find(a, 0);
  const startB = find(b, startA + a.length);
  const target = length - (ids.length - a.length - b.length);
  if (target < 0) throw new Fault(where, `a length of ${length} is too short for the special tokens alone`);
  // The shorter text keeps what it has while the longer one can make room; else both get a half, the longer one the odd token.
  const short = Math.min(a.length, b.length, Math.floor(target / 2));
  const [keepA, keepB] = a.length > b.length ? [target - short, short] : [short, target - short];
  const dropped = (i: number, start: number, of: number, keep: number) => i >= start + keep && i < start + of;
  return Array.from(ids.keys()).filter((i) => !dropped(i, startA, a.length, keepA) && !dropped(i, startB, b.length, keepB));
}
