/** All ops: an export's name is its registration. */
import type { Node } from "../ir/graph.ts";
import * as activation from "./activation.ts";
import * as arithmetic from "./arithmetic.ts";
import * as attention from "./attention.ts";
import * as batchnorm from "./batchnorm.ts";
import * as conv from "./conv.ts";
import * as einsum from "./einsum.ts";
import * as fusedattention from "./fusedattention.ts";
import * as gather from "./gather.ts";
import * as linear from "./linear.ts";
import * as logic from "./logic.ts";
import * as loss from "./loss.ts";
import * as math from "./math.ts";
import * as microsoft from "./microsoft.ts";
import * as normalization from "./normalization.ts";
import type { Op } from "./op.ts";
import * as pad from "./pad.ts";
import * as pith from "./pith.ts";
import * as pool from "./pool.ts";
import * as quantized from "./quantized.ts";
import * as recurrent from "./recurrent.ts";
import * as reduction from "./reduction.ts";
import * as regularize from "./regularize.ts";
import * as resize from "./resize.ts";
import * as shape from "./shape.ts";
import * as softmax from "./softmax.ts";

/** Domain → the families of its ops; an op stands in one family only. */
const families: Readonly<Record<string, readonly Readonly<Record<string, Op>>[]>> = {
  "": [
    activation,
    arithmetic,
    attention,
    batchnorm,
    conv,
    einsum,
    gather,
    linear,
    logic,
    loss,
    math,
    normalization,
    pad,
    pool,
    quantized,
    recurrent,
    reduction,
    regularize,
    resize,
    shape,
    softmax,
  ],
  "com.microsoft": [microsoft, fusedattention],
  pith: [pith],
};

/** Domain → op type → what is known of it. */
export const domains: Record<string, Record<string, Op>> = Object.fromEntries(
  Object.entries(families).map(([domain, list]) => [domain, Object.fromEntries(list.flatMap((f) => Object.entries(f)))]),
);

/** What is known of a node's op; undefined for an op pith does not know. */
export function opOf(node: Node): Op | undefined {
  const ops = domains[node.domain];
  return ops && Object.hasOwn(ops, node.opType) ? ops[node.opType] : undefined;
}
