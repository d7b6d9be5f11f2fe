/** Text recognizers trained with CTC: greedy decoding and the character error rate. */
import { Fault } from "../tensor/fault.ts";
import { numbersOf, type Tensor, tensor } from "../tensor/tensor.ts";
import { argmax, ignored, type Metric } from "./accuracy.ts";

/**
 * Best-path decoding (Graves et al. 2006, ICML, §3.2): the likeliest class at each step of [n, steps, classes] scores, repeats merged, blanks
 * dropped. One list of classes per example. Errors: another number of dimensions.
 */
export function ctcGreedy(scores: Tensor, blank = 0): number[][] {
  if (scores.shape.length !== 3) throw new Fault("ctc", `scores must have the shape [n, steps, classes]; got [${scores.shape}]`);
  const [n, steps] = scores.shape as [number, number, number];
  const best = argmax(scores);
  return Array.from({ length: n }, (_, i) => {
    const path = best.subarray(i * steps, (i + 1) * steps);
    return Array.from(path.filter((c, t) => c !== blank && c !== path[t - 1]));
  });
}

/** Fewest insertions, deletions and substitutions that turn `a` into `b` (Levenshtein 1966). */
export function editDistance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length]!;
}

/**
 * Character error rate of a recognizer whose first output is [n, steps, classes]: the edits between what it reads and `labels`, over the
 * characters of `labels` ([n, longest] classes, padded with −100; see {@link encodeText}), in %. It can exceed 100.
 */
export function characterError(options: { labels?: string; blank?: number } = {}): Metric {
  const { labels: name = "labels", blank = 0 } = options;
  return {
    metric: "characterError",
    unit: "%",
    better: "lower",
    targets: [name],
    score(outputs, batch) {
      const labels = batch[name]!;
      const wanted = numbersOf(labels);
      const read = ctcGreedy(outputs[0]!, blank);
      const width = labels.shape[1] ?? 1;
      if (labels.shape.length !== 2 || labels.shape[0] !== read.length)
        throw new Fault("characterError", `"${name}" must have the shape [${read.length}, longest]; got [${labels.shape}]`);
      const lines = read.map((_, i) => wanted.subarray(i * width, (i + 1) * width).filter((c) => c !== ignored));
      return { scores: read.map((r, i) => editDistance(r, lines[i]!)), weights: lines.map((l) => l.length) };
    },
  };
}

/**
 * Lines of text as classes: int32 [lines, longest], padded with −100. `characters[c]` is what class c writes (the blank: anything unique).
 * Errors: a character that no class writes.
 */
export function encodeText(lines: readonly string[], characters: readonly string[]): Tensor {
  const classes = new Map(characters.map((c, i) => [c, i]));
  const encoded = lines.map((line) =>
    Array.from(line, (c) => {
      const at = classes.get(c);
      if (at === undefined) throw new Fault("text", `"${c}" in "${line}" is not among the model's ${characters.length} characters`);
      return at;
    }),
  );
  const width = Math.max(0, ...encoded.map((e) => e.length));
  return tensor(
    "int32",
    [lines.length, width],
    encoded.flatMap((e) => [...e, ...Array(width - e.length).fill(ignored)]),
  );
}
