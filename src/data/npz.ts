/** NumPy's .npz: a zip archive of .npy files, one per named array. */
import { Fault } from "../tensor/fault.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { readNpy, writeNpy } from "./npy.ts";
import { readZip, writeZip } from "./zip.ts";

/** The arrays of an .npz file by name, in the file's order. Errors: what {@link readNpy} and the zip reader refuse; two arrays of one name. */
export function readNpz(bytes: Uint8Array, where = "npz"): Record<string, Tensor> {
  const out: Record<string, Tensor> = Object.create(null);
  for (const m of readZip(bytes, where)) {
    if (m.name.endsWith("/")) continue;
    if (!m.name.endsWith(".npy")) throw new Fault(where, `holds "${m.name}"; only .npy members would be right`);
    const name = m.name.slice(0, -4);
    if (name in out) throw new Fault(where, `holds two arrays named "${name}"`);
    out[name] = readNpy(m.read(), `${where}: ${name}`);
  }
  return { ...out };
}

/** An .npz file; the same bytes for the same arrays. `compress` deflates it, as savez_compressed does. */
export function writeNpz(arrays: Readonly<Record<string, Tensor>>, options: { readonly compress?: boolean } = {}): Uint8Array {
  return writeZip(
    Object.entries(arrays).map(([name, t]) => [`${name}.npy`, writeNpy(t)] as const),
    options,
  );
}
