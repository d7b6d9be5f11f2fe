/** Large messages without copies: a file as a list of small encoded pieces and, between them, tensors' bytes where they already are. */
import { create, type DescMessage, type Message, toBinary } from "@bufbuild/protobuf";
import type { TensorProto } from "onnx-buf";
import { Fault } from "../tensor/fault.ts";
import type { LazyBytes } from "../tensor/tensor.ts";
import { limits } from "./limits.ts";

/** Pieces of a file in order; a lazy piece is read only when it is written. */
export type Pieces = (Uint8Array | LazyBytes)[];

/** Bytes of tensors whose messages do not hold them. */
export type RawData = Map<Message, Uint8Array | LazyBytes>;

export function byteLength(pieces: Pieces): number {
  return pieces.reduce((n, p) => n + p.byteLength, 0);
}

/** All pieces as one. Errors: more than an ONNX file can hold. */
export function joined(pieces: Pieces): Uint8Array {
  const length = byteLength(pieces);
  if (length > limits.fileBytes)
    throw new Fault("model", `would be a file of ${length} bytes, and ONNX's end at 2 GiB; larger weights must be external data`);
  if (pieces.length === 1 && pieces[0] instanceof Uint8Array) return pieces[0];
  const out = new Uint8Array(length);
  let at = 0;
  for (const p of pieces) {
    out.set(p instanceof Uint8Array ? p : p.read(), at);
    at += p.byteLength;
  }
  return out;
}

/** The messages on the way to tensors: in all others there is nothing large. */
const holders = new Set(["Graph", "Node", "Attribute", "Function", "TrainingInfo", "SparseTensor", "Tensor"].map((m) => `onnx.${m}Proto`));

/** Tensors of fewer bytes are encoded with what surrounds them. */
const largeFrom = 4096;

/** A message in protobuf's encoding. Fields with large tensors stand behind the others, which protobuf allows; repeated ones keep their order. */
export function piecesOf(schema: DescMessage, message: Message, raw: RawData): Pieces {
  const known = new Map<Message, boolean>();
  const isLarge = (s: DescMessage, m: Message): boolean => {
    let large = known.get(m);
    if (large === undefined) {
      large =
        m.$typeName === "onnx.TensorProto"
          ? raw.has(m) || (m as TensorProto).rawData.byteLength + (m.$unknown ?? []).reduce((n, u) => n + u.data.byteLength, 0) >= largeFrom
          : childrenOf(s, m).some(({ type, children }) => children.some((c) => isLarge(type, c)));
      known.set(m, large);
    }
    return large;
  };
  const encode = (s: DescMessage, m: Message): Pieces => {
    if (!isLarge(s, m)) return [toBinary(s, m)];
    const small: Message & Record<string, unknown> = Object.assign(create(s), m);
    const large: Pieces = [];
    if (m.$typeName === "onnx.TensorProto") {
      const data = raw.get(m) ?? (m as TensorProto).rawData;
      delete small.rawData;
      delete small.$unknown;
      if (data.byteLength) large.push(...framed(9, [data]));
      for (const u of m.$unknown ?? []) large.push(varint(u.no * 8 + u.wireType), u.data);
      return [toBinary(s, small), ...large];
    }
    for (const { field, number, type, children, list } of childrenOf(s, m)) {
      if (!children.some((c) => isLarge(type, c))) continue;
      if (list) small[field] = [];
      else delete small[field];
      for (let i = 0; i < children.length; ) {
        let end = i;
        while (end < children.length && !isLarge(type, children[end]!)) end++;
        // A run of small ones is encoded at once, as a message that holds nothing else.
        if (end > i) large.push(toBinary(s, Object.assign(create(s), { [field]: children.slice(i, end) })));
        if (end < children.length) large.push(...framed(number, encode(type, children[end]!)));
        i = end + 1;
      }
    }
    return [toBinary(s, small), ...large];
  };
  return encode(schema, message);
}

interface Children {
  readonly field: string;
  readonly number: number;
  readonly type: DescMessage;
  readonly children: readonly Message[];
  readonly list: boolean;
}

/** The message's fields that may hold tensors, with what they hold. */
function childrenOf(schema: DescMessage, m: Message): Children[] {
  const out: Children[] = [];
  for (const f of schema.fields) {
    if (!f.message || !holders.has(f.message.typeName)) continue;
    const value = (m as unknown as Record<string, Message | Message[] | undefined>)[f.localName];
    if (!value) continue;
    const list = Array.isArray(value);
    out.push({ field: f.localName, number: f.number, type: f.message, children: list ? value : [value], list });
  }
  return out;
}

/** A length-delimited field: tag, length, content. */
function framed(field: number, content: Pieces): Pieces {
  return [varint(field * 8 + 2), varint(byteLength(content)), ...content];
}

function varint(x: number): Uint8Array {
  const out: number[] = [];
  while (x > 127) {
    out.push((x % 128) | 128);
    x = Math.floor(x / 128);
  }
  out.push(x);
  return Uint8Array.from(out);
}
