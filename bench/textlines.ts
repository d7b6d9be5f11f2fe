/** Lines of made-up text, rendered by the package sharp in the fonts DejaVu and Liberation: what a text recognizer is tuned and scored on. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { type Random, random } from "../src/tensor/random.ts";
import { type Tensor, wrap } from "../src/tensor/tensor.ts";

export interface TextLines {
  /** uint8 [n, 48, 320]. */
  readonly grey: Tensor;
  readonly text: readonly string[];
}

const [height, width] = [48, 320];

const fonts = ["DejaVu Sans", "DejaVu Serif", "DejaVu Sans Mono", "Liberation Sans", "Liberation Serif", "Liberation Mono"].flatMap((f) =>
  ["", " Bold", " Italic", " Bold Italic"].map((style) => f + style),
);

/** The words of the licence, every third for the lines that score and the others for those that are trained on. */
const words = [...new Set(readFileSync(join(import.meta.dirname, "../LICENSE"), "utf8").match(/[A-Za-z]{2,12}/g)!)].sort();

const pick = <T>(r: Random, from: ArrayLike<T>): T => from[r.below(from.length)]!;
const digits = (r: Random, n: number) => Array.from({ length: n }, () => r.below(10)).join("");
const letters = (r: Random, n: number) => Array.from({ length: n }, () => pick(r, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")).join("");
const marks = [", ", ". ", ": ", "; ", " - ", "? ", "! ", " (", ") ", " / ", " & ", "'s ", ' "', '" ', " + ", " = "];

/** Words, numbers, codes, prices, dates, addresses, up to 26 characters. */
function phrase(r: Random, vocabulary: readonly string[]): string {
  const word = () => {
    const w = pick(r, vocabulary);
    const how = r.below(8);
    return how === 0 ? w.toUpperCase() : how < 3 ? w[0]!.toUpperCase() + w.slice(1) : w;
  };
  const parts: (() => string)[] = [
    word,
    word,
    word,
    word,
    () => digits(r, 1 + r.below(5)),
    () => `${letters(r, 1 + r.below(3))}${pick(r, ["-", "", " "])}${digits(r, 2 + r.below(4))}`,
    () => `${pick(r, ["$", "", "#"])}${1 + r.below(9)},${digits(r, 3)}.${digits(r, 2)}`,
    () => `20${digits(r, 2)}-0${1 + r.below(9)}-${1 + r.below(2)}${r.below(10)}`,
    () => `${r.below(24)}:${r.below(6)}${r.below(10)}`,
    () => `${word().toLowerCase()}@${word().toLowerCase()}.${pick(r, ["org", "com", "net"])}`,
    () => `${r.below(100)}%`,
  ];
  let line = pick(r, parts)();
  const count = r.below(5);
  for (let i = 0; i < count; i++) {
    const next = line + (r.uniform() < 0.75 ? " " : pick(r, marks)) + pick(r, parts)();
    if (next.length > 26) break;
    line = next;
  }
  return line.slice(0, 26).trim();
}

/** How much ink is where, 0 to 255, [48, 320]: one font, sizes 22 to 36, some turned by up to 1.5°, some blurred. */
async function inked(text: string, r: Random): Promise<Uint8Array> {
  const escaped = text.replace(/[&<>]/g, (c) => `&#${c.charCodeAt(0)};`);
  const font = pick(r, fonts);
  const size = 22 + r.below(15);
  const draw = (size: number) =>
    sharp({ text: { text: escaped, font: `${font} ${size}`, dpi: 72 } })
      .png()
      .toBuffer({ resolveWithObject: true });
  let { data, info } = await draw(size);
  // At least 9, where it is still read.
  if (info.width > 300 || info.height > 42)
    ({ data, info } = await draw(Math.max(9, Math.floor(size * Math.min(300 / info.width, 42 / info.height)))));
  const fits = await sharp(data)
    .resize({ width: Math.min(info.width, 304), height: Math.min(info.height, 44), fit: "inside" })
    .png()
    .toBuffer({ resolveWithObject: true });
  const left = 2 + r.below(Math.min(12, width - fits.info.width - 2));
  const top = Math.max(0, Math.min(height - fits.info.height, Math.round((height - fits.info.height) / 2 + 2 * r.normal())));
  const black = { r: 0, g: 0, b: 0 };
  const placed = await sharp({ create: { width, height, channels: 3, background: black } })
    .composite([{ input: fits.data, left, top }])
    .png()
    .toBuffer();
  const angle = r.uniform() < 0.35 ? 3 * r.uniform() - 1.5 : 0;
  const turned = sharp(placed)
    .rotate(angle, { background: black })
    .resize(width, height, { fit: angle === 0 ? "fill" : "cover" });
  const blurred = r.uniform() < 0.3 ? turned.blur(0.6 + 0.8 * r.uniform()) : turned;
  return new Uint8Array(await blurred.toColourspace("b-w").raw().toBuffer());
}

/** Ink on paper: dark on light, some faint, some light on dark, some with noise. */
async function rendered(text: string, r: Random): Promise<Uint8Array> {
  const ink = await inked(text, r);
  const paper = 150 + r.below(106);
  const contrast = r.uniform() < 0.2 ? 40 + r.below(40) : 90 + r.below(paper - 90);
  const inverted = r.uniform() < 0.12;
  const noise = r.uniform() < 0.25 ? 4 + 10 * r.uniform() : 0;
  const out = new Uint8Array(height * width);
  for (let i = 0; i < out.length; i++) {
    const shade = paper - (contrast * ink[i]!) / 255;
    const pixel = (inverted ? 255 - shade : shade) + (noise ? noise * r.normal() : 0);
    out[i] = Math.min(255, Math.max(0, Math.round(pixel)));
  }
  return out;
}

/** `n` lines, by the seed; no word of a "test" line is in a "train" line. */
export async function textLines(n: number, part: "train" | "test", seed: number): Promise<TextLines> {
  const vocabulary = words.filter((_, i) => (i % 3 === 0) === (part === "test"));
  const r = random(seed, `lines ${part}`);
  const grey = new Uint8Array(n * height * width);
  const text: string[] = [];
  for (let i = 0; i < n; i++) {
    text.push(phrase(r, vocabulary));
    grey.set(await rendered(text[i]!, r), i * height * width);
  }
  return { grey: wrap("uint8", [n, height, width], grey), text };
}
