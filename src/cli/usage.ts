/** Errors of how the command was called, and the parsers of option values. */
import { InvalidArgumentError, Option } from "commander";
import { Fault } from "../tensor/fault.ts";

/** A wrong call: exit code 2. */
export class Usage extends Fault {
  constructor(what: string) {
    super("usage", what);
  }
}

/** A parser whose Faults become errors of the call. */
export function parser<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (e) {
      if (e instanceof Fault) throw new InvalidArgumentError(e.message);
      throw e;
    }
  };
}

/** Like {@link parser}, for an option that may be given several times. */
export function repeated<T>(parse: (text: string) => T): (text: string, before: readonly T[] | undefined) => readonly T[] {
  const one = parser(parse);
  return (text, before = []) => [...before, one(text)];
}

/** A whole number of at least `min`. */
export function whole(min: number): (text: string) => number {
  return (text) => {
    const x = Number(text);
    if (text.trim() === "" || !Number.isSafeInteger(x) || x < min)
      throw new InvalidArgumentError(`a whole number of at least ${min} is needed.`);
    return x;
  };
}

/** A number of at least `min`. */
export function amount(min: number): (text: string) => number {
  return (text) => {
    const x = Number(text);
    if (text.trim() === "" || !Number.isFinite(x) || x < min) throw new InvalidArgumentError(`a number of at least ${min} is needed.`);
    return x;
  };
}

/** How a result's zeros are stored. */
export function sparseOption(): Option {
  return new Option(
    "--sparse [indices]",
    "store initializers sparsely where that is smaller, with indices as the specification has them, or narrow ones that ONNX Runtime takes",
  )
    .choices(["int64", "narrow"])
    .preset("int64");
}

/** "1,4" → [1, 4]. */
export function wholes(min: number): (text: string) => readonly number[] {
  const one = whole(min);
  return (text) => text.split(",").map(one);
}

/** "x=1x3x48x320" → ["x", [1, 3, 48, 320]]; a scalar is "x=". */
export function shape(text: string): readonly [string, readonly number[]] {
  const equals = text.lastIndexOf("=");
  const dims = text.slice(equals + 1);
  if (equals < 1 || !/^(\d+(x\d+)*)?$/.test(dims)) throw new Fault("shape", `must be written name=1x3x48x320; got ${JSON.stringify(text)}`);
  return [text.slice(0, equals), dims === "" ? [] : dims.split("x").map(Number)];
}
