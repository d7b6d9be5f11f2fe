/** ONNX's own losses over class labels. */
import type { Node, Value } from "../ir/graph.ts";
import { tensor } from "../tensor/tensor.ts";
import { type Build, dtypeOf, shapeOf } from "./build.ts";
import type { Op, VjpArgs } from "./op.ts";
import { input, output, refused } from "./rule.ts";

/** The cotangent of log-probabilities [n, classes, …] from that of the loss: −weight at each label, 0 where it is to be ignored. */
function ofLabels(b: Build, node: Node, g: Value): Value {
  const [x, labels, weights] = [input(node, 0), input(node, 1), node.inputs[2]];
  const [n, classes, ...rest] = shapeOf(x) as [number, number, ...number[]];
  const [float, int] = [dtypeOf(x), dtypeOf(labels)];
  const every = [n, 1, ...rest];
  const names = tensor(
    int,
    [1, classes, ...rest.map(() => 1)],
    Array.from({ length: classes }, (_, i) => i),
  );
  const hit = b.cast(b.op("Equal", [b.reshape(labels, every), b.constant(names, "classes")]), float);
  const by = weights ? b.mul(hit, b.reshape(weights, [1, classes, ...rest.map(() => 1)])) : hit;
  const ignored = node.int("ignore_index");
  const kept =
    ignored === undefined ? by : b.mul(by, b.cast(b.op("Not", [b.op("Equal", [b.reshape(labels, every), b.scalar(ignored, int)])]), float));
  const reduction = node.string("reduction") ?? "mean";
  const each = reduction === "none" ? b.reshape(g, every) : g;
  const axes = [n, classes, ...rest].map((_, i) => i);
  return b.neg(b.mul(kept, reduction === "mean" ? b.div(each, b.sum(kept, axes)) : each));
}

function onlyFirst({ node, needs }: VjpArgs): void {
  if (needs[2]) throw refused(node, "the weights of the classes are trained");
}

/** Inputs: log-probabilities, labels, and optionally a weight for each class. */
export const NegativeLogLikelihoodLoss: Op = {
  vjp(args) {
    onlyFirst(args);
    return [ofLabels(args.b, args.node, args.g[0]!)];
  },
};

/** As {@link NegativeLogLikelihoodLoss}, of scores; output 1 is their LogSoftmax. */
export const SoftmaxCrossEntropyLoss: Op = {
  vjp(args) {
    onlyFirst(args);
    const { b, node, g } = args;
    const logs = output(node, 1);
    const ofLoss = g[0] ? ofLabels(b, node, g[0]) : null;
    const d = ofLoss && g[1] ? b.add(ofLoss, g[1]) : (ofLoss ?? g[1]!);
    return [b.sub(d, b.mul(b.op("Exp", [logs]), b.sum(d, [1], true)))];
  },
};
