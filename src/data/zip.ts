/** Zip archives and gzip, with every claimed size checked before memory is taken for it. */
import { inflateSync, type Zippable, zipSync } from "fflate";
import { Fault } from "../tensor/fault.ts";
import { limits } from "./limits.ts";

/** A member of an archive, unpacked when read. */
export interface Member {
  readonly name: string;
  readonly byteLength: number;
  /** Errors: broken data, a size or checksum that is not the claimed one. */
  read(): Uint8Array;
}

/** The members of a zip archive. Errors: not a zip; zip64, encryption or a method other than store and deflate; sizes that cannot be true. */
export function readZip(bytes: Uint8Array, where: string): Member[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const fault = (what: string) => new Fault(where, what);
  // The end record is 22 bytes and a comment of up to 65,535.
  let end = bytes.length - 22;
  const last = Math.max(0, end - 65_535);
  const isEnd = () => view.getUint32(end, true) === 0x06054b50 && end + 22 + view.getUint16(end + 20, true) === bytes.length;
  while (end >= last && !isEnd()) end--;
  if (end < last) throw fault("is not a zip archive, or is cut short (no end record)");
  const count = view.getUint16(end + 10, true);
  const size = view.getUint32(end + 12, true);
  let at = view.getUint32(end + 16, true);
  if (count === 0xffff || size === 0xffffffff || at === 0xffffffff)
    throw fault("is a zip64 archive; members and file below 4 GiB, or separate .npy files, would be right");
  const directory = at;
  const members: Member[] = [];
  const ranges: [number, number][] = [];
  let total = 0;
  for (let i = 0; i < count; i++) {
    if (at + 46 > end || view.getUint32(at, true) !== 0x02014b50) throw fault("has a broken directory");
    const flags = view.getUint16(at + 8, true);
    const method = view.getUint16(at + 10, true);
    const crc = view.getUint32(at + 16, true);
    const packed = view.getUint32(at + 20, true);
    const unpacked = view.getUint32(at + 24, true);
    const nameLength = view.getUint16(at + 28, true);
    const next = at + 46 + nameLength + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
    const local = view.getUint32(at + 42, true);
    if (next > end) throw fault("has a broken directory");
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength));
    at = next;
    const of = `${where}: ${name}`;
    if (packed === 0xffffffff || unpacked === 0xffffffff || local === 0xffffffff)
      throw new Fault(of, "is a zip64 member; less than 4 GiB would be right");
    if (flags & 1) throw new Fault(of, "is encrypted");
    if (method !== 0 && method !== 8) throw new Fault(of, `is packed by method ${method}; store (0) and deflate (8) are known`);
    if (local + 30 > directory || view.getUint32(local, true) !== 0x04034b50)
      throw new Fault(of, "has no local header where the directory says");
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    if (start + packed > directory) throw new Fault(of, `claims ${packed} packed bytes, more than the archive holds`);
    if (method === 0 ? unpacked !== packed : unpacked > packed * limits.deflateRatio)
      throw new Fault(of, `claims to unpack ${packed} bytes to ${unpacked}, which cannot be`);
    total += unpacked;
    if (total > limits.unpacked) throw fault(`unpacks to more than ${limits.unpacked} bytes; use separate .npy files`);
    ranges.push([local, start + packed]);
    const body = bytes.subarray(start, start + packed);
    members.push({
      name,
      byteLength: unpacked,
      read: () => checked(method === 0 ? body : inflate(body, unpacked, of), crc, of),
    });
  }
  ranges.sort((a, b) => a[0] - b[0]);
  for (let i = 1; i < ranges.length; i++) if (ranges[i]![0] < ranges[i - 1]![1]) throw fault("has members that overlap");
  return members;
}

/** An archive with these members in this order; the same bytes for the same content. */
export function writeZip(
  members: readonly (readonly [name: string, bytes: Uint8Array])[],
  options: { readonly compress?: boolean } = {},
): Uint8Array {
  const files: Zippable = {};
  for (const [name, bytes] of members) files[name] = bytes;
  return zipSync(files, { level: options.compress ? 6 : 0, mtime: new Date(1980, 0, 1) });
}

export function isGzip(bytes: Uint8Array): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b;
}

/** The content of a gzip file of one member. Errors: broken data, a size that cannot be true, a wrong checksum. */
export function gunzip(bytes: Uint8Array, where: string): Uint8Array {
  const short = () => new Fault(where, "is a gzip file cut short");
  if (!isGzip(bytes) || bytes[2] !== 8) throw new Fault(where, "is not a gzip file");
  const flags = bytes[3]!;
  let at = 10;
  if (flags & 4) at += 2 + ((bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8));
  for (const flag of [8, 16]) {
    if (!(flags & flag)) continue;
    const zero = bytes.indexOf(0, at);
    if (zero < 0) throw short();
    at = zero + 1;
  }
  if (flags & 2) at += 2;
  if (at + 8 > bytes.length) throw short();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = view.getUint32(bytes.length - 4, true);
  const body = bytes.subarray(at, -8);
  if (size > Math.min(body.length * limits.deflateRatio, limits.unpacked))
    throw new Fault(where, `claims to unpack ${body.length} bytes to ${size}, which cannot be`);
  return checked(inflate(body, size, where), view.getUint32(bytes.length - 8, true), where);
}

/** Inflates into memory of the claimed size: whatever is longer or shorter is broken. */
function inflate(body: Uint8Array, size: number, where: string): Uint8Array {
  let out: Uint8Array;
  try {
    // One byte more than claimed, so that too long is seen.
    out = inflateSync(body, { out: new Uint8Array(size + 1) });
  } catch (e) {
    throw new Fault(where, `its packed data is broken (${(e as Error).message})`, { cause: e });
  }
  if (out.length !== size) throw new Fault(where, `claims to unpack to ${size} bytes, and does not`);
  return out;
}

let crcTable: Uint32Array | undefined;

/** `bytes`, if their CRC-32 is the claimed one. */
function checked(bytes: Uint8Array, claimed: number, where: string): Uint8Array {
  crcTable ??= Uint32Array.from({ length: 256 }, (_, n) => {
    let c = n;
    for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
    return c;
  });
  let crc = -1;
  for (let i = 0; i < bytes.length; i++) crc = crcTable[(crc ^ bytes[i]!) & 255]! ^ (crc >>> 8);
  if (~crc >>> 0 !== claimed) throw new Fault(where, "is damaged: its checksum is wrong");
  return bytes;
}
