/** Files a command is to write: refused before the work begins. */
import { existsSync, realpathSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { checkReplaceable, makeFolder } from "../onnx/file.ts";
import { Fault } from "../tensor/fault.ts";

/** Errors: `path` is one of the inputs, a folder, or in a folder that cannot be written. */
export function checkOutput(path: string, inputs: readonly (string | undefined)[]): void {
  const target = resolve(path);
  if (existsSync(target)) {
    for (const input of inputs)
      if (input !== undefined && existsSync(input) && realpathSync(input) === realpathSync(target))
        throw new Fault(path, "is also an input; choose another name for the output");
    checkReplaceable(path);
  }
  // Nothing tells as surely as trying; what was made for it goes again.
  let made: string[] = [];
  try {
    made = makeFolder(dirname(target));
    writeFileSync(beside(target), "");
    rmSync(beside(target));
  } catch (e) {
    throw new Fault(path, `cannot be written: ${(e as Error).message}`, { cause: e });
  } finally {
    for (const folder of made.reverse()) rmdirSync(folder);
  }
}

function beside(path: string): string {
  return `${path}.${process.pid}.part`;
}
