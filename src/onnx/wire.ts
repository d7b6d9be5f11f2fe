/** Protobuf's encoding itself: numbers of variable length, and a look over a whole file before anything is built from it. */
import { type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { limits } from "./limits.ts";

interface Fields {
  /** Types of the fields that hold messages. */
  readonly messages: ReadonlyMap<number, DescMessage>;
  /** Fields that hold numbers. */
  readonly numbers: ReadonlySet<number>;
}

const known = new Map<DescMessage, Fields>();

function fieldsOf(schema: DescMessage): Fields {
  let fields = known.get(schema);
  if (!fields) {
    const messages = new Map(schema.fields.flatMap((f) => (f.message ? [[f.number, f.message] as const] : [])));
    const isNumber = (s: ScalarType | undefined) => s !== undefined && s !== ScalarType.STRING && s !== ScalarType.BYTES;
    const numbers = new Set(schema.fields.flatMap((f) => (isNumber(f.scalar) || f.enum ? [f.number] : [])));
    known.set(schema, (fields = { messages, numbers }));
  }
  return fields;
}

/**
 * Walks through a message without building anything: every length lies within what surrounds it, and there are no more parts than
 * {@link limits} allow, each of which would become an object of a hundred times its bytes. Errors: what is wrong, as a plain Error.
 */
export function scan(schema: DescMessage, bytes: Uint8Array): void {
  let at = 0;
  let parts = 0;
  let numbers = 0;
  const count = (end: number) => {
    let x = 0;
    for (let shift = 0; ; shift += 7) {
      if (at >= end) throw new Error(`it is cut off at byte ${at}`);
      const b = bytes[at++]!;
      // Values beyond 2^53 lose their last digits; no length is as large.
      x += (b & 127) * 2 ** shift;
      if (b < 128) return x;
      if (shift === 63) throw new Error(`byte ${at} ends no number`);
    }
  };
  const message = (type: DescMessage, end: number, depth: number) => {
    if (depth > limits.messageDepth) throw new Error(`its messages nest deeper than ${limits.messageDepth}`);
    const fields = fieldsOf(type);
    while (at < end) {
      const start = at;
      const tag = count(end);
      const field = Math.floor(tag / 8);
      const isNumber = fields.numbers.has(field);
      if (isNumber) numbers++;
      else parts++;
      let next = at;
      switch (tag % 8) {
        case 0:
          count(end);
          next = at;
          break;
        case 1:
          next += 8;
          break;
        case 2: {
          const length = count(end);
          next = at + length;
          if (isNumber) numbers += length;
          break;
        }
        case 5:
          next += 4;
          break;
        default:
          throw new Error(`byte ${start} begins no field`);
      }
      if (field === 0) throw new Error(`byte ${start} begins no field`);
      if (next > end) throw new Error(`${next - end} bytes are missing behind byte ${end}`);
      if (parts > limits.parts) throw new Error(`it has more than ${limits.parts} parts`);
      if (numbers > limits.numbers) throw new Error(`it has more than ${limits.numbers} numbers in lists`);
      const inner = tag % 8 === 2 ? fields.messages.get(field) : undefined;
      if (inner) message(inner, next, depth + 1);
      at = next;
    }
  };
  message(schema, bytes.length, 1);
}

/** How many varints a packed field holds; null if the last one is cut off or one is longer than 64 bits. */
export function countVarints(bytes: Uint8Array): number | null {
  let n = 0;
  let length = 0;
  for (let i = 0; i < bytes.length; i++) {
    if (++length > 10) return null;
    if (bytes[i]! < 128) {
      n++;
      length = 0;
    }
  }
  return length ? null : n;
}

/** Calls `put` with the low and the high word of every varint. */
export function eachVarint(bytes: Uint8Array, put: (index: number, low: number, high: number) => void): void {
  let at = 0;
  for (let i = 0; at < bytes.length; i++) {
    let low = 0;
    let high = 0;
    let b = 0;
    let shift = 0;
    do {
      b = bytes[at++]!;
      const part = b & 127;
      if (shift < 32) low |= part << shift;
      if (shift === 28) high |= part >>> 4;
      else if (shift > 28) high |= part << (shift - 32);
      shift += 7;
    } while (b > 127);
    put(i, low, high);
  }
}
