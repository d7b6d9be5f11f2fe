/** NumPy's .npy format, versions 1 to 3 (NEP 1): every numeric type, either byte order, C and Fortran order. */
import { byteLengthOf, type DType, dtypes, sizeOf } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { bytesOf, type Tensor } from "../tensor/tensor.ts";
import { limits } from "./limits.ts";
import { swapBytes } from "./swap.ts";

const descriptions: Readonly<Record<string, DType>> = {
  b1: "bool",
  i1: "int8",
  i2: "int16",
  i4: "int32",
  i8: "int64",
  u1: "uint8",
  u2: "uint16",
  u4: "uint32",
  u8: "uint64",
  f2: "float16",
  f4: "float32",
  f8: "float64",
  c8: "complex64",
  c16: "complex128",
};

const magic = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];

/** The array in an .npy file, a view of `bytes` where it can be. Errors: a broken or hostile header, objects, strings, a wrong length. */
export function readNpy(bytes: Uint8Array, where = "npy"): Tensor {
  if (bytes.length < 10 || magic.some((m, i) => bytes[i] !== m)) throw new Fault(where, "is not an .npy file (no \\x93NUMPY at its start)");
  const version = bytes[6]!;
  if (version < 1 || version > 3) throw new Fault(where, `is .npy version ${version}; versions 1 to 3 are known`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = version === 1 ? 10 : 12;
  if (bytes.length < start) throw new Fault(where, "ends inside its header");
  const length = version === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  if (length > limits.npyHeader) throw new Fault(where, `claims a header of ${length} bytes; the limit is ${limits.npyHeader}`);
  if (start + length > bytes.length)
    throw new Fault(where, `claims a header of ${length} bytes, but the file ends after ${bytes.length - start}`);
  const { descr, fortran, shape } = parseHeader(new TextDecoder().decode(bytes.subarray(start, start + length)), where);

  const dtype = Object.hasOwn(descriptions, descr.slice(1)) ? descriptions[descr.slice(1)] : undefined;
  const order = descr[0]!;
  if (!dtype || !"<>|=".includes(order))
    throw new Fault(
      where,
      `holds elements of type ${descr || "''"}; numbers and booleans would be right (b1, i1 … i8, u1 … u8, f2 … f8, c8, c16)`,
    );
  const need = byteLengthOf(dtype, shape);
  let data = bytes.subarray(start + length);
  if (data.length !== need) throw new Fault(where, `holds ${data.length} bytes of data; ${dtype}[${shape}] takes ${need}`);
  const { bits, kind } = dtypes[dtype];
  if (order === ">" && bits > 8) data = swapBytes(data, bits / (kind === "c" ? 16 : 8));
  if (fortran && shape.length > 1) data = fromFortran(data, shape, bits / 8);
  return { dtype, shape, data };
}

/** The header, a Python dict literal with exactly the keys descr, fortran_order and shape. */
function parseHeader(text: string, where: string): { descr: string; fortran: boolean; shape: number[] } {
  const bad = () => new Fault(where, `has a header that is no array description; got ${JSON.stringify(text.slice(0, 80).trim())}`);
  const entry = /\s*(?:'(\w+)'|"(\w+)")\s*:\s*(?:'([^']*)'|"([^"]*)"|(True|False)|(\([\d\sL,]*\)))\s*(,|(?=\}))/y;
  const open = /^\s*\{/.exec(text);
  if (!open) throw bad();
  entry.lastIndex = open[0].length;
  const found = new Map<string, string>();
  let end = entry.lastIndex;
  for (let m = entry.exec(text); m; m = entry.exec(text)) {
    found.set(m[1] ?? m[2]!, m[3] ?? m[4] ?? m[5] ?? m[6]!);
    end = entry.lastIndex;
  }
  if (/'descr'\s*:\s*\[/.test(text)) throw new Fault(where, "holds records of several fields; one plain array would be right");
  const descr = found.get("descr");
  const order = found.get("fortran_order");
  const dims = found.get("shape");
  if (!/^\s*\}\s*$/.test(text.slice(end)) || found.size !== 3 || descr === undefined || !order || !dims?.startsWith("(")) throw bad();
  if (order !== "True" && order !== "False") throw bad();
  if (descr.slice(1).startsWith("O") || descr === "O")
    throw new Fault(where, "holds Python objects (a pickle), which are never read; numbers would be right");
  const parts = dims.slice(1, -1).split(",");
  if (parts.at(-1)!.trim() === "") parts.pop();
  if (parts.length > limits.dims) throw new Fault(where, `claims ${parts.length} dimensions; the limit is ${limits.dims}`);
  const shape = parts.map((p) => {
    if (!/^\s*\d+L?\s*$/.test(p)) throw bad();
    return Number.parseInt(p, 10);
  });
  if (!Number.isSafeInteger(shape.reduce((n, d) => n * Math.max(d, 1), 16)))
    throw new Fault(where, `claims the shape [${shape}], more elements than any file holds`);
  return { descr, fortran: order === "True", shape };
}

/** Column-major elements of `width` bytes in row-major order. */
function fromFortran(data: Uint8Array, shape: readonly number[], width: number): Uint8Array {
  const out = new Uint8Array(data.length);
  const n = sizeOf(shape);
  const strides = shape.map((_, i) => width * sizeOf(shape.slice(0, i)));
  const index = shape.map(() => 0);
  let from = 0;
  for (let i = 0; i < n; i++) {
    for (let b = 0; b < width; b++) out[i * width + b] = data[from + b]!;
    for (let d = shape.length - 1; d >= 0; d--) {
      from += strides[d]!;
      if (++index[d]! < shape[d]!) break;
      from -= strides[d]! * shape[d]!;
      index[d] = 0;
    }
  }
  return out;
}

/** An .npy file (version 1.0, C order, little-endian), byte for byte what NumPy writes. Errors: an element type NumPy lacks. */
export function writeNpy(t: Tensor): Uint8Array<ArrayBuffer> {
  const code = Object.entries(descriptions).find(([, d]) => d === t.dtype)?.[0];
  if (!code) throw new Fault("npy", `has no element type ${t.dtype}; float32 would be right`);
  const order = dtypes[t.dtype].bits === 8 ? "|" : "<";
  const shape = t.shape.length === 1 ? `(${t.shape[0]},)` : `(${t.shape.join(", ")})`;
  const text = `{'descr': '${order}${code}', 'fortran_order': False, 'shape': ${shape}, }`;
  // NumPy leaves room for the first axis to grow to 21 digits, then pads with spaces and a newline to a multiple of 64.
  const grow = t.shape.length ? 21 - String(t.shape[0]).length : 0;
  const length = Math.ceil((10 + text.length + grow + 1) / 64) * 64;
  if (length - 10 > limits.npyHeader) throw new Fault("npy", `a shape of ${t.shape.length} dimensions does not fit a version 1 header`);
  const data = bytesOf(t);
  const out = new Uint8Array(length + data.length);
  out.set(magic);
  out[6] = 1;
  new DataView(out.buffer).setUint16(8, length - 10, true);
  out.set(new TextEncoder().encode(`${text.padEnd(length - 11)}\n`), 10);
  out.set(data, length);
  return out;
}
