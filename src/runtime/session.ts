/** The one way models run. */
import type { Batch } from "../data/dataset.ts";
import type { DType } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";

export interface SessionOptions {
  /** Intra-op threads; default: the runtime's own choice. */
  readonly threads?: number;
  /** Graph optimization level; default all. */
  readonly optimization?: "disabled" | "basic" | "extended" | "all";
  /** false for measuring: an idle session's spinning threads slow the other one. Default true. */
  readonly spinning?: boolean;
  /** Session for training: no memory pattern, denormals as zero. */
  readonly training?: boolean;
  /** Further session config entries, as ONNX Runtime names them ("session.disable_quant_qdq": "1"). */
  readonly config?: Readonly<Record<string, string>>;
}

export interface Port {
  readonly name: string;
  /** null: not a tensor, or a type without data in this runtime. */
  readonly dtype: DType | null;
  readonly shape: readonly (number | string | null)[];
}

export interface Session {
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  /** Runs once; `fetch` names the outputs wanted (default: all). */
  run(feeds: Batch, fetch?: readonly string[]): Promise<Record<string, Tensor>>;
  /**
   * A run over fixed memory: tensors over `feeds` are read anew each time the result is called, and outputs are written into the
   * memory of `into` (views of one WebAssembly memory, for training). Never let an output alias an input.
   */
  bind(feeds: Batch, into: Batch): () => Promise<void>;
  release(): Promise<void>;
}
