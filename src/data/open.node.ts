/** Datasets from files. Node only. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { dtypes } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { numbersOf, type Tensor, tensor } from "../tensor/tensor.ts";
import { type Dataset, fromArrays } from "./dataset.ts";
import { readIdx } from "./idx.ts";
import { classFolders, type ImageOptions, imagesIn, openImages } from "./images.node.ts";
import { type TextOptions, tokenize } from "./jsonl.ts";
import { readNpy } from "./npy.ts";
import { readNpz } from "./npz.ts";

export interface OpenDataOptions extends ImageOptions, TextOptions {
  /** What an array of images or a single array is to be called: a model's input. Default "x". */
  readonly input?: string;
  /** The array that holds the labels, given the name `labels`. Default: one already named so. */
  readonly labels?: string;
  /** Which MNIST files of a folder. Default "train". */
  readonly part?: "train" | "test";
  /** Names of classes in the order of their numbers. Default: the sorted names there are. */
  readonly classes?: readonly string[];
  /** `.jsonl`: the tokenizer.json, with its tokenizer_config.json beside it where there is one. */
  readonly tokenizer?: string;
}

/**
 * The examples in
 * - an `.npz` file: its arrays under their own names;
 * - an `.npy` file: one array, named `input`;
 * - an IDX file (`…-images-idx3-ubyte`, also gzipped): the images as `input`, with the labels file beside it;
 * - a folder of MNIST's files: its training part, or its test part;
 * - a folder of a folder of images for each class: bytes [n, height, width, channels] as `input` ({@link openImages}, by the package sharp);
 * - a folder of images: the same without labels;
 * - a `.jsonl` file of texts and labels ({@link tokenize}, by the package @huggingface/tokenizers).
 *
 * Labels of an integer type come as int64. Errors: no such file, another kind of file, a name the file lacks, arrays of different lengths.
 */
export async function openData(path: string, options: OpenDataOptions = {}): Promise<Dataset> {
  const { input = "x", labels, part = "train" } = options;
  let arrays: Record<string, Tensor>;
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat) throw new Fault(path, "no such file or folder");
  const name = basename(path);
  const idx = () => readdirSync(path).some((f) => f.includes("-images-idx3-ubyte"));
  if (stat.isDirectory() && !idx() && (classFolders(path).length > 0 || imagesIn(path).length > 0))
    arrays = await openImages(path, input, options);
  else if (stat.isDirectory()) arrays = openIdx(path, `${part === "train" ? "train" : "t10k"}-images-idx3-ubyte`, input);
  else if (name.endsWith(".npz")) arrays = readNpz(bytes(path), path);
  else if (name.endsWith(".npy")) arrays = { [input]: readNpy(bytes(path), path) };
  else if (/idx\d?-ubyte|\.idx\d?(\.|$)/.test(name)) arrays = openIdx(dirname(path), name.replace(/\.gz$/, ""), input);
  else if (/\.(jsonl|ndjson)$/.test(name)) arrays = await openTexts(path, options);
  else
    throw new Fault(
      path,
      "is no data file known here; an .npz, .npy, IDX or .jsonl file, or a folder of MNIST files or of images, would be right",
    );
  if (labels !== undefined && labels !== "labels") {
    const t = arrays[labels];
    if (!t) throw new Fault(path, `has no array "${labels}" for labels; it has ${Object.keys(arrays).join(", ")}`);
    delete arrays[labels];
    arrays.labels = t;
  }
  // Class indices come in every integer type; graphs take int64.
  const given = arrays.labels;
  if (given && given.dtype !== "int64" && "iu".includes(dtypes[given.dtype].kind))
    arrays.labels = tensor("int64", given.shape, numbersOf(given));
  try {
    return fromArrays(arrays);
  } catch (e) {
    throw e instanceof Fault ? new Fault(path, e.message, { cause: e }) : e;
  }
}

/** Images, and labels where their file stands beside. */
function openIdx(folder: string, images: string, input: string): Record<string, Tensor> {
  const there = (name: string) => [name, `${name}.gz`].map((n) => join(folder, n)).find((p) => existsSync(p));
  const path = there(images);
  if (!path) throw new Fault(folder, `holds no ${images}(.gz); MNIST's IDX files, or a folder of images for each class, would be right`);
  const out: Record<string, Tensor> = { [input]: readIdx(bytes(path), path) };
  const beside = images.replace("images", "labels").replace("idx3", "idx1");
  const labels = beside === images ? undefined : there(beside);
  if (labels) out.labels = readIdx(bytes(labels), labels);
  return out;
}

function openTexts(path: string, { tokenizer, ...options }: OpenDataOptions): Promise<Record<string, Tensor>> {
  if (tokenizer === undefined) throw new Fault(path, "needs a tokenizer to become numbers; the model's tokenizer.json would be right");
  const config = join(dirname(tokenizer), "tokenizer_config.json");
  return tokenize(
    decode(path),
    path,
    {
      where: tokenizer,
      json: json(tokenizer),
      config: existsSync(config) ? json(config) : {},
    },
    options,
  );
}

function json(path: string): object {
  let value: unknown;
  try {
    value = JSON.parse(decode(path));
  } catch (e) {
    throw e instanceof SyntaxError ? new Fault(path, "is not JSON", { cause: e }) : e;
  }
  if (typeof value !== "object" || value === null) throw new Fault(path, "is no JSON object");
  return value;
}

function decode(path: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes(path));
  } catch (e) {
    throw e instanceof TypeError ? new Fault(path, "is not UTF-8 text", { cause: e }) : e;
  }
}

function bytes(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (e) {
    throw new Fault(path, (e as Error).message, { cause: e });
  }
}
