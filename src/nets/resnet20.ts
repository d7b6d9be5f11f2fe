/** ResNet-20 for small images (He et al. 2016, section 4.2). */
import type { Model, Value } from "../ir/graph.ts";
import { Fault } from "../tensor/fault.ts";
import { net } from "./net.ts";

export interface ResnetOptions {
  readonly classes?: number;
  /** Channels of the images. */
  readonly channels?: number;
  /** Height and width of the images, a multiple of 4. */
  readonly size?: number;
  /** Channels of the first stage (the others have twice and four times as many); default 16. */
  readonly width?: number;
  /** Residual blocks in each of the three stages; default 3, which makes 20 layers. */
  readonly blocks?: number;
  readonly seed?: number;
}

/**
 * Input "x" float32 [batch, channels, size, size]; a 3×3 convolution, three stages of residual blocks (two 3×3 convolutions with
 * BatchNormalization), the later two starting at stride 2 with a 1×1 projection, global average pooling, one dense layer; output "logits".
 * 272,474 parameters as it is, and 1,568 running statistics. Train it from scratch with `batchStatistics`.
 */
export function resnet20(options: ResnetOptions = {}): Model {
  const { classes = 10, channels = 3, size = 32, width = 16, blocks = 3, seed = 0 } = options;
  if (size % 4 !== 0) throw new Fault("resnet20", `size must be a multiple of 4; got ${size}`);
  const n = net("resnet20", seed);
  const normalized = (name: string, x: Value, c: readonly [number, number], kernel: number, stride: number) =>
    n.batchNorm(`${name}.bn`, n.conv(`${name}.conv`, x, c, { kernel, stride, pad: (kernel - 1) / 2, bias: false }), c[1]);
  let x = n.model.graph.input("x", "float32", ["batch", channels, size, size]);
  x = n.relu("stem.relu", normalized("stem", x, [channels, width], 3, 1));
  let c = width;
  for (let stage = 1; stage <= 3; stage++) {
    for (let block = 1; block <= blocks; block++) {
      const name = `stage${stage}.block${block}`;
      const out = width * 2 ** (stage - 1);
      const stride = out === c ? 1 : 2;
      const short = out === c ? x : normalized(`${name}.short`, x, [c, out], 1, stride);
      const y = n.relu(`${name}.relu1`, normalized(`${name}.1`, x, [c, out], 3, stride));
      x = n.relu(`${name}.relu2`, n.op(`${name}.add`, "Add", [normalized(`${name}.2`, y, [out, out], 3, 1), short]));
      c = out;
    }
  }
  const pooled = n.op("flatten", "Flatten", [n.op("pool", "GlobalAveragePool", [x])]);
  return n.done(n.dense("fc", pooled, [c, classes], "glorot"), ["batch", classes]);
}
