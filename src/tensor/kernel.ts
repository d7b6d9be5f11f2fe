/** Numeric kernels: WebAssembly modules, compiled from kernels/, over a memory that the caller lays out. */

/** WebAssembly's own page. */
export const pageBytes = 65536;

/** A memory of at least `bytes` that never grows, so that views of it stay valid. */
export function memoryOf(bytes: number): WebAssembly.Memory {
  const pages = Math.max(1, Math.ceil(bytes / pageBytes));
  return new WebAssembly.Memory({ initial: pages, maximum: pages });
}

/** The exports of a kernel (the base64 text of a generated module) over `memory`. */
export function instantiate<Exports>(module: string, memory: WebAssembly.Memory): Exports {
  const bytes = Uint8Array.from(atob(module), (c) => c.charCodeAt(0));
  return new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } }).exports as Exports;
}
