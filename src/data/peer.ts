/** Packages that pith uses where they are installed and does not bring along. */
import { Fault } from "../tensor/fault.ts";

/** The package `name` as `load` imports it. Errors: it is not there, with the command that would bring it; it is there and does not load. */
export async function peer<T>(where: string, name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (e) {
    const { code, message } = e as NodeJS.ErrnoException;
    const missing = code === "ERR_MODULE_NOT_FOUND" || code === "MODULE_NOT_FOUND";
    throw new Fault(
      where,
      missing
        ? `needs the package ${name}; npm install ${name} brings it`
        : `the package ${name} cannot be loaded: ${message.split("\n")[0]}; npm install ${name} may mend it`,
      { cause: e },
    );
  }
}
