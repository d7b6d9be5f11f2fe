/** Folders of images, with a folder for each class or without classes. Node only, by the optional package sharp. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { Fault } from "../tensor/fault.ts";
import { type Tensor, tensor } from "../tensor/tensor.ts";
import { classNumbers } from "./classes.ts";
import { limits } from "./limits.ts";
import { peer } from "./peer.ts";

export interface ImageOptions {
  /** Height and width, or one number for both. Default 224. */
  readonly size?: number | readonly [height: number, width: number];
  /** One channel of brightness in the place of red, green and blue. */
  readonly gray?: boolean;
  /** How an image of other proportions fits: its middle is cut out (cover, default), it is stretched (fill), or black bars are added (contain). */
  readonly fit?: Fit;
}

export const fits = ["cover", "fill", "contain"] as const;
export type Fit = (typeof fits)[number];

const ending = /\.(jpe?g|png|webp)$/i;

/** First bytes of what is decoded: an ending may lie, and the decoder knows formats that do more than hold pixels. */
const isImage = (b: Uint8Array) => /^(ffd8ff|89504e470d0a1a0a|52494646.{8}57454250)/.test(Buffer.from(b.subarray(0, 12)).toString("hex"));

/** The class folders of a folder, sorted by name; none where it has no folders. */
export function classFolders(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => !name.startsWith(".") && statSync(join(folder, name), { throwIfNoEntry: false })?.isDirectory())
    .sort();
}

/** The images that lie in a folder itself, sorted by name. */
export function imagesIn(folder: string): string[] {
  return readdirSync(folder)
    .filter((f) => ending.test(f))
    .sort();
}

/**
 * The images of `folder/<class>/*.jpg|jpeg|png|webp`, by class, then by name: `input` uint8 [n, height, width, 3] (gray: 1) and `labels`
 * int64 [n], the classes' numbers in `classes`, default their sorted names. A folder without folders: its own images, without labels. Turned upright as EXIF says, resized by Lanczos 3, transparency
 * dropped. All are decoded now and held as bytes. Errors: sharp is not installed, a class without images, no class of `classes`, a file
 * that is not an image or has too many pixels, more bytes than the limit.
 */
export async function openImages(
  folder: string,
  input: string,
  { size = 224, gray = false, fit = "cover", classes }: ImageOptions & { readonly classes?: readonly string[] } = {},
): Promise<Record<string, Tensor>> {
  const [height, width] = typeof size === "number" ? [size, size] : size;
  for (const d of [height, width])
    if (!Number.isInteger(d) || d < 1 || d > limits.imageSide)
      throw new Fault(folder, `a size must be a whole number from 1 to ${limits.imageSide}; got ${height}x${width}`);
  const names = classFolders(folder);
  const numbers = classNumbers(folder, names, classes);
  const labelled = names.flatMap((name) => {
    const images = imagesIn(join(folder, name));
    if (images.length === 0)
      throw new Fault(join(folder, name), "holds no images; a folder for each class with .jpg, .png or .webp files would be right");
    return images.map((f) => ({ path: join(folder, name, f), label: numbers.get(name)! }));
  });
  const files = names.length ? labelled : imagesIn(folder).map((f) => ({ path: join(folder, f), label: null }));
  const channels = gray ? 1 : 3;
  const bytes = height * width * channels;
  if (files.length * bytes > limits.unpacked)
    throw new Fault(
      folder,
      `${files.length} images of ${height}x${width}x${channels} take ${gib(files.length * bytes)} of memory; the limit is ${gib(limits.unpacked)}: fewer or smaller ones would be right`,
    );
  const { default: sharp } = await peer(folder, "sharp", () => import("sharp"));
  const data = new Uint8Array(files.length * bytes);
  const decode = async (i: number) => {
    const { path } = files[i]!;
    const file = readFileSync(path);
    if (!isImage(file)) throw new Fault(path, "is no JPEG, PNG or WebP image");
    try {
      const upright = sharp(file, { limitInputPixels: limits.imagePixels }).rotate().removeAlpha();
      const { data: pixels, info } = await upright
        .resize(width, height, { fit })
        .toColourspace(gray ? "b-w" : "srgb")
        .raw({ depth: "uchar" })
        .toBuffer({ resolveWithObject: true });
      if (pixels.length !== bytes) throw new Error(`decodes to ${info.channels} channels`);
      data.set(pixels, i * bytes);
    } catch (e) {
      throw new Fault(path, `cannot be decoded: ${(e as Error).message.split("\n")[0]}`, { cause: e });
    }
  };
  // A few at a time: each holds a whole image at its own size.
  for (let at = 0; at < files.length; at += 4)
    await Promise.all(Array.from({ length: Math.min(4, files.length - at) }, (_, i) => decode(at + i)));
  const labels = labelled.map((f) => f.label);
  return {
    [input]: { dtype: "uint8", shape: [files.length, height, width, channels], data },
    ...(names.length ? { labels: tensor("int64", [labels.length], labels) } : {}),
  };
}

const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
