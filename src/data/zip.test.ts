import { gzipSync, zipSync } from "fflate";
import { expect, test } from "vitest";
import { gunzip, readZip, writeZip } from "./zip.ts";

const zeros = new Uint8Array(1 << 20);
/** Sets 32 bits in a copy. */
const patched = (bytes: Uint8Array, at: number, value: number) => {
  const out = bytes.slice();
  new DataView(out.buffer).setUint32(at, value, true);
  return out;
};
const directoryOf = (zip: Uint8Array) => new DataView(zip.buffer).getUint32(zip.length - 22 + 16, true);

test("members come back", () => {
  const zip = writeZip(
    [
      ["a", new Uint8Array([1, 2, 3])],
      ["b/c", zeros],
    ],
    { compress: true },
  );
  expect(zip.length).toBeLessThan(3000);
  const [a, b] = readZip(zip, "z");
  expect([a!.name, b!.name, b!.byteLength]).toEqual(["a", "b/c", 1 << 20]);
  expect(a!.read()).toEqual(new Uint8Array([1, 2, 3]));
  expect(Buffer.compare(b!.read(), zeros)).toBe(0);
});

test("a size no deflate stream can reach is refused before memory is taken", () => {
  const zip = zipSync({ a: zeros.subarray(0, 1000) });
  expect(() => readZip(patched(zip, directoryOf(zip) + 24, 4_000_000_000), "z")).toThrow("which cannot be");
  const gz = gzipSync(zeros.subarray(0, 1000));
  expect(() => gunzip(patched(gz, gz.length - 4, 4_000_000_000), "g")).toThrow("which cannot be");
});

test("more or less content than claimed is refused", () => {
  const zip = zipSync({ a: zeros });
  for (const claim of [(1 << 20) - 1, (1 << 20) + 1])
    expect(() => readZip(patched(zip, directoryOf(zip) + 24, claim), "z")[0]!.read(), `${claim}`).toThrow(
      `claims to unpack to ${claim} bytes`,
    );
});

test("members that share bytes are refused (Fifield's bomb)", () => {
  const zip = zipSync({ a: zeros, b: zeros });
  const directory = directoryOf(zip);
  const second = directory + 46 + 1;
  expect(() => readZip(patched(zip, second + 42, 0), "z")).toThrow("overlap");
});

test("an archive that unpacks to more than the limit is refused", () => {
  // 4.2 MB packed could be 4.3 GB, so only the sum of the claims tells.
  const noise = Uint8Array.from({ length: 4_200_000 }, (_, i) => Math.imul(i, 2654435761) >>> 13);
  const zip = zipSync({ a: [noise, { level: 0 }] });
  const deflated = patched(zip, directoryOf(zip) + 8, 8 << 16);
  expect(() => readZip(patched(deflated, directoryOf(zip) + 24, 2 ** 32 - 2), "z")).not.toThrow();
  const two = zipSync({ a: [noise, { level: 0 }], b: [noise, { level: 0 }] });
  let bomb = two;
  for (const at of [directoryOf(two), directoryOf(two) + 47]) bomb = patched(patched(bomb, at + 8, 8 << 16), at + 24, 2 ** 32 - 2);
  expect(() => readZip(bomb, "z")).toThrow("unpacks to more than 4294967296 bytes");
});

test("damage, zip64 and encryption are named", () => {
  const zip = writeZip([["a", new Uint8Array([1, 2, 3])]]);
  const damaged = zip.slice();
  damaged[31]! ^= 1;
  expect(() => readZip(damaged, "z")[0]!.read()).toThrow("z: a: is damaged: its checksum is wrong");
  expect(() => readZip(patched(zip, directoryOf(zip) + 24, 0xffffffff), "z")).toThrow("zip64");
  const encrypted = zip.slice();
  encrypted[directoryOf(zip) + 8]! |= 1;
  expect(() => readZip(encrypted, "z")).toThrow("is encrypted");
});

test("gzip with a file name in its header", () => {
  expect(Buffer.compare(gunzip(gzipSync(zeros, { filename: "zeros.bin" }), "g"), zeros)).toBe(0);
  const two = new Uint8Array([...gzipSync(zeros.subarray(0, 10)), ...gzipSync(new Uint8Array([1, 2]))]);
  expect(() => gunzip(two, "g")).toThrow("claims to unpack to 2 bytes");
});
