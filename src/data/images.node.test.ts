import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import sharp from "sharp";
import { beforeAll, expect, test } from "vitest";
import { numbersOf } from "../tensor/tensor.ts";
import { openData } from "./open.node.ts";
import { peer } from "./peer.ts";

const folder = mkdtempSync(join(tmpdir(), "pith-"));
const at = (name: string) => join(folder, name);
const put = (name: string, bytes: Uint8Array) => {
  mkdirSync(dirname(at(name)), { recursive: true });
  writeFileSync(at(name), bytes);
};
/** 4 wide, 2 high: the left half of one colour, the right half of another. */
const halves = (left: number[], right: number[]) =>
  sharp(Uint8Array.from([left, left, right, right, left, left, right, right].flat()), {
    raw: { width: 4, height: 2, channels: left.length as 3 | 4 },
  });
const [red, blue] = [
  [250, 0, 0],
  [0, 0, 250],
];

beforeAll(async () => {
  put("set/zebra/1.png", await halves(red!, blue!).png().toBuffer());
  put("set/ant/b.webp", await halves(blue!, blue!).webp({ lossless: true }).toBuffer());
  put("set/ant/a.JPG", await halves(red!, red!).jpeg({ quality: 100, chromaSubsampling: "4:4:4" }).toBuffer());
  put("set/ant/notes.txt", new Uint8Array(3));
});

const near = (a: ArrayLike<number>, b: readonly number[], by = 3) => {
  expect(a.length).toBe(b.length);
  for (let i = 0; i < b.length; i++) expect(Math.abs(a[i]! - b[i]!)).toBeLessThanOrEqual(by);
};

test("classes are the sorted folders; JPEG, PNG and WebP become bytes, NHWC", async () => {
  const d = await openData(at("set"), { input: "image", size: [2, 4] });
  expect([d.length, d.names]).toEqual([3, ["image", "labels"]]);
  const { image, labels } = d.take([0, 1, 2]);
  expect([image!.dtype, image!.shape, labels!.dtype, ...numbersOf(labels!)]).toEqual(["uint8", [3, 2, 4, 3], "int64", 0, 0, 1]);
  near(numbersOf(d.take([0]).image!), Array(8).fill(red).flat());
  near(numbersOf(d.take([1]).image!), Array(8).fill(blue).flat(), 0);
  near(numbersOf(d.take([2]).image!), [red, red, blue, blue, red, red, blue, blue].flat() as number[], 0);
});

test("cut, stretched, with bars; gray; upright; without transparency", async () => {
  put("wide/only/a.png", await halves(red!, blue!).png().toBuffer());
  const pixels = async (options: object) => Array.from(numbersOf((await openData(at("wide"), options)).take([0]).x!));
  expect(await pixels({ size: 2 })).toEqual([red, blue, red, blue].flat());
  expect((await pixels({ size: 4, fit: "contain" })).slice(0, 12)).toEqual(Array(12).fill(0));
  expect((await pixels({ size: 4, fit: "fill" })).slice(0, 3)).not.toEqual([0, 0, 0]);
  const gray = await pixels({ size: [2, 4], gray: true });
  expect([gray.length, gray[0]! > 1.5 * gray[3]!, gray[3]! > 0]).toEqual([8, true, true]);
  put(
    "turned/only/a.jpg",
    await halves(red!, blue!).withMetadata({ orientation: 6 }).jpeg({ quality: 100, chromaSubsampling: "4:4:4" }).toBuffer(),
  );
  const turned = numbersOf((await openData(at("turned"), { size: [4, 2] })).take([0]).x!);
  near(turned.slice(0, 3), red!, 6);
  near(turned.slice(-3), blue!, 6);
  put("clear/only/a.png", await halves([9, 8, 7, 0], [9, 8, 7, 0]).png().toBuffer());
  expect(Array.from(numbersOf((await openData(at("clear"), { size: [2, 4] })).take([0]).x!)).slice(0, 3)).toEqual([9, 8, 7]);
});

test("a folder without folders holds images without labels", async () => {
  put("plain/2.png", await halves(blue!, blue!).png().toBuffer());
  put("plain/1.png", await halves(red!, blue!).png().toBuffer());
  put("plain/notes.txt", new Uint8Array(3));
  const d = await openData(at("plain"), { size: [2, 4] });
  expect([d.length, d.names]).toEqual([2, ["x"]]);
  expect(Array.from(numbersOf(d.take([1]).x!))).toEqual(Array(8).fill(blue).flat());
});

test("classes in a given order", async () => {
  const labels = async (classes: string[]) =>
    Array.from(numbersOf((await openData(at("set"), { size: 2, classes })).take([0, 1, 2]).labels!));
  expect(await labels(["zebra", "bear", "ant"])).toEqual([2, 2, 0]);
  await expect(labels(["zebra", "bear"])).rejects.toThrow('set: "ant" is none of the classes; they are zebra, bear');
});

test("what is no image, too large or too much is told in one line", async () => {
  put("bad/a/1.png", new TextEncoder().encode("<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"));
  await expect(openData(at("bad"))).rejects.toThrow(/1\.png: is no JPEG, PNG or WebP image$/);
  put("cut/a/1.png", (await halves(red!, blue!).png().toBuffer()).subarray(0, 50));
  await expect(openData(at("cut"))).rejects.toThrow(/1\.png: cannot be decoded: [^\n]+$/);
  // A header that claims 60,000 × 60,000.
  const bomb = await halves(red!, blue!).png({ compressionLevel: 0 }).toBuffer();
  bomb.writeUInt32BE(60_000, 16);
  bomb.writeUInt32BE(60_000, 20);
  bomb.writeUInt32BE(crc(bomb.subarray(12, 29)), 29);
  put("bomb/a/1.png", bomb);
  await expect(openData(at("bomb"))).rejects.toThrow(/1\.png: cannot be decoded: .*pixel limit/);
  put("empty/a/notes.txt", new Uint8Array(3));
  await expect(openData(at("empty"))).rejects.toThrow(/empty\/a: holds no images/);
  await expect(openData(at("set"), { size: 0 })).rejects.toThrow("set: a size must be a whole number from 1 to 16384; got 0x0");
  for (let i = 0; i < 6; i++) put(`many/a/${i}.png`, await halves(red!, blue!).png().toBuffer());
  await expect(openData(at("many"), { size: 16_384 })).rejects.toThrow(
    "many: 6 images of 16384x16384x3 take 4.5 GiB of memory; the limit is 4.0 GiB",
  );
});

test("a package that is not installed is asked for", async () => {
  const missing = ["no", "such", "package"].join("-");
  await expect(peer("photos", "sharp", () => import(missing))).rejects.toThrow(
    /^photos: needs the package sharp; npm install sharp brings it$/,
  );
  const broken = () => Promise.reject(new Error("wrong ELF class\nat …"));
  await expect(peer("photos", "sharp", broken)).rejects.toThrow(
    "the package sharp cannot be loaded: wrong ELF class; npm install sharp may mend it",
  );
});

function crc(bytes: Uint8Array): number {
  let c = ~0;
  for (const b of bytes) {
    c ^= b;
    for (let k = 0; k < 8; k++) c = (c >>> 1) ^ (c & 1 ? 0xedb88320 : 0);
  }
  return ~c >>> 0;
}
