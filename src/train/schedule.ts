/** Learning-rate schedules: the factor of the learning rate at each step. */
import { called, declare, int, number } from "../data/params.ts";

/** The factor at `step` (from 0) of `of` steps. */
export type Schedule = (step: number, of: number) => number;

const warmup = int(0, { min: 0, doc: "steps over which the rate first rises linearly from 0" });

function warm(warmup: number, after: Schedule): Schedule {
  return (step, of) => (step < warmup ? (step + 1) / (warmup + 1) : after(step - warmup, Math.max(1, of - warmup)));
}

export const constant = declare("constant", "the same rate throughout, after a linear warm-up", { warmup }, ({ warmup }) =>
  warm(warmup, () => 1),
);

export const step = declare(
  "step",
  "the rate falls by a factor at equal distances",
  {
    warmup,
    times: int(2, { min: 1, doc: "how often it falls" }),
    factor: number(0.1, { min: 0, max: 1, doc: "what is left of it each time" }),
  },
  ({ warmup, times, factor }) => warm(warmup, (step, of) => factor ** Math.floor((step * (times + 1)) / of)),
);

/** Half a cosine from 1 to `floor` (Loshchilov, Hutter 2017, without restarts). */
export const cosine = declare(
  "cosine",
  "half a cosine down to a floor",
  { warmup, floor: number(0, { min: 0, max: 1, doc: "the factor at the end" }) },
  ({ warmup, floor }) => warm(warmup, (step, of) => floor + ((1 - floor) * (1 + Math.cos((Math.PI * step) / of))) / 2),
);

export const linear = declare(
  "linear",
  "straight down to a floor",
  { warmup, floor: number(0, { min: 0, max: 1, doc: "the factor at the end" }) },
  ({ warmup, floor }) => warm(warmup, (step, of) => 1 - ((1 - floor) * step) / of),
);

export const schedules = { constant, step, cosine, linear };

/** A schedule from text: "cosine:warmup=100". */
export function parseSchedule(text: string): Schedule {
  return called<Schedule>("schedule", schedules, text);
}
