/** Optimizers: what one call of the fused kernel does with parameters, gradients and moments. */
import { called, declare, flag, number } from "../data/params.ts";
import type { OptimizerKernel } from "../tensor/kernels/optimizer.ts";

/** Where the arrays lie in the kernel's memory (bytes), and their common length in floats. */
export interface Places {
  readonly p: number;
  readonly g: number;
  /** One address per array of moments the optimizer asks for. */
  readonly moments: readonly number[];
  readonly length: number;
}

export interface Optimizer {
  readonly name: string;
  readonly learningRate: number;
  /** Arrays of moments, each as large as the parameters. */
  readonly moments: number;
  /** One update; `step` counts from 1, `rate` is the scheduled learning rate, gradients are multiplied by `scale` first. */
  update(kernel: OptimizerKernel, at: Places, step: number, rate: number, scale: number): void;
}

const learningRate = (initial: number) => number(initial, { min: 0, doc: "step size, before the schedule" });
const weightDecay = number(0, { min: 0, doc: "L2: this times the weights is added to the gradients" });
const moments = {
  beta1: number(0.9, { min: 0, max: 1, doc: "decay of the mean of gradients" }),
  beta2: number(0.999, { min: 0, max: 1, doc: "decay of the mean of squared gradients" }),
  epsilon: number(1e-8, { min: 0, doc: "added to the root of the second moment" }),
};

/** Stochastic gradient descent; momentum as in Sutskever et al. 2013 (PyTorch's form): m = µm + g, p −= rate·m, or with Nesterov p −= rate·(g + µm). */
export const sgd = declare(
  "sgd",
  "stochastic gradient descent with (Nesterov) momentum",
  {
    learningRate: learningRate(0.01),
    momentum: number(0, { min: 0, max: 1, doc: "share of the last update that is kept" }),
    nesterov: flag(false, { doc: "look ahead by the momentum" }),
    weightDecay,
  },
  ({ learningRate, momentum, nesterov, weightDecay }): Optimizer => ({
    name: "sgd",
    learningRate,
    moments: momentum ? 1 : 0,
    update(kernel, { p, g, moments, length }, _, rate, scale) {
      const ahead = nesterov && momentum > 0;
      kernel.sgd(p, g, moments[0] ?? g, length, rate, momentum, ahead ? 1 : 0, ahead ? momentum : 1, weightDecay, scale);
    },
  }),
);

/** Adam (Kingma, Ba 2015). */
export const adam = declare(
  "adam",
  "Adam (Kingma, Ba 2015)",
  { learningRate: learningRate(1e-3), ...moments, weightDecay },
  (values): Optimizer => ({ name: "adam", ...adaptive(values, values.weightDecay, 0) }),
);

/** AdamW (Loshchilov, Hutter 2019): Adam with weight decay apart from the gradients. */
export const adamw = declare(
  "adamw",
  "AdamW: Adam with decoupled weight decay (Loshchilov, Hutter 2019)",
  {
    learningRate: learningRate(1e-3),
    ...moments,
    weightDecay: number(0.01, { min: 0, doc: "this times the learning rate is the share by which weights shrink each step" }),
  },
  (values): Optimizer => ({ name: "adamw", ...adaptive(values, 0, values.weightDecay) }),
);

interface Adaptive {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
}

function adaptive({ learningRate, beta1, beta2, epsilon }: Adaptive, decay: number, decoupled: number): Omit<Optimizer, "name"> {
  return {
    learningRate,
    moments: 2,
    update(kernel, { p, g, moments: [m, v], length }, step, rate, scale) {
      const root = 1 / Math.sqrt(1 - beta2 ** step);
      const corrected = rate / (1 - beta1 ** step);
      const shrink = 1 - rate * decoupled;
      kernel.adam(p, g, m!, v!, length, corrected, root, epsilon, beta1, 1 - beta1, beta2, 1 - beta2, decay, shrink, scale);
    },
  };
}

export const optimizers = { sgd, adam, adamw };

/** An optimizer from text: "adam:learningRate=1e-3". */
export function parseOptimizer(text: string): Optimizer {
  return called<Optimizer>("optimizer", optimizers, text);
}
