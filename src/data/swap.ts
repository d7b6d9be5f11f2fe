/** Byte order. */

/** A copy with the bytes of each word of `width` bytes reversed: big-endian ⇄ little-endian. */
export function swapBytes(bytes: Uint8Array, width: number): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(bytes.length);
  for (let at = 0; at < bytes.length; at += width) for (let i = 0; i < width; i++) out[at + i] = bytes[at + width - 1 - i]!;
  return out;
}
