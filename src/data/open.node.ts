/** Datasets from files. Node only. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { dtypes } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { numbersOf, type Tensor, tensor } from "../tensor/tensor.ts";
import { type Dataset, fromArrays } from "./dataset.ts";
import { readIdx } from "./idx.ts";
import { readNpy } from "./npy.ts";
import { readNpz } from "./npz.ts";

export interface OpenDataOptions {
  /** What an array of images or a single array is to be called: a model's input. Default "x". */
  readonly input?: string;
  /** The array that holds the labels, given the name `labels`. Default: one already named so. */
  readonly labels?: string;
  /** Which MNIST files of a folder. Default "train". */
  readonly part?: "train" | "test";
}

/**
 * The examples in
 * - an `.npz` file: its arrays under their own names;
 * - an `.npy` file: one array, named `input`;
 * - an IDX file (`…-images-idx3-ubyte`, also gzipped): the images as `input`, with the labels file beside it;
 * - a folder of MNIST's files: its training part, or its test part.
 *
 * Labels of an integer type come as int64. Errors: no such file, another kind of file, a name the file lacks, arrays of different lengths.
 */
export function openData(path: string, options: OpenDataOptions = {}): Dataset {
  const { input = "x", labels, part = "train" } = options;
  let arrays: Record<string, Tensor>;
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat) throw new Fault(path, "no such file or folder");
  const name = basename(path);
  if (stat.isDirectory()) arrays = openIdx(path, `${part === "train" ? "train" : "t10k"}-images-idx3-ubyte`, input);
  else if (name.endsWith(".npz")) arrays = readNpz(bytes(path), path);
  else if (name.endsWith(".npy")) arrays = { [input]: readNpy(bytes(path), path) };
  else if (/idx\d?-ubyte|\.idx\d?(\.|$)/.test(name)) arrays = openIdx(dirname(path), name.replace(/\.gz$/, ""), input);
  else throw new Fault(path, "is no data file known here; an .npz, .npy or IDX file, or a folder of MNIST files, would be right");
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
  if (!path) throw new Fault(folder, `holds no ${images}(.gz); MNIST's IDX files would be right`);
  const out: Record<string, Tensor> = { [input]: readIdx(bytes(path), path) };
  const beside = images.replace("images", "labels").replace("idx3", "idx1");
  const labels = beside === images ? undefined : there(beside);
  if (labels) out.labels = readIdx(bytes(labels), labels);
  return out;
}

function bytes(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (e) {
    throw new Fault(path, (e as Error).message, { cause: e });
  }
}
