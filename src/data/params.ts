/** Parameters declared once (of techniques, losses, optimizers, preprocessings): types, flags, help, validation and report labels all come from here. */
import { Fault } from "../tensor/fault.ts";

export interface Param<T> {
  readonly default: T;
  readonly doc: string;
  /** What values are right, in words: "a whole number from 2 to 8". */
  readonly expects: string;
  /** The value of `raw` (a JSON value, or text from a command line); undefined if it is not one. */
  readonly parse: (raw: unknown) => T | undefined;
}

type Doc = { readonly doc: string };
type Range = Doc & { readonly min?: number; readonly max?: number };

function range(kind: string, { min, max }: Range): string {
  if (min !== undefined && max !== undefined) return `${kind} from ${min} to ${max}`;
  if (min !== undefined) return `${kind} of at least ${min}`;
  return max !== undefined ? `${kind} of at most ${max}` : kind;
}

function numeric(raw: unknown): number {
  if (typeof raw === "number") return raw;
  return typeof raw === "string" && raw.trim() !== "" ? Number(raw) : Number.NaN;
}

/** A whole number. */
export function int(initial: number, options: Range): Param<number> {
  return {
    default: initial,
    doc: options.doc,
    expects: range("a whole number", options),
    parse: (raw) => {
      const x = numeric(raw);
      return Number.isInteger(x) && x >= (options.min ?? -Infinity) && x <= (options.max ?? Infinity) ? x : undefined;
    },
  };
}

/** A number. */
export function number(initial: number, options: Range): Param<number> {
  return {
    default: initial,
    doc: options.doc,
    expects: range("a number", options),
    parse: (raw) => {
      const x = numeric(raw);
      return Number.isFinite(x) && x >= (options.min ?? -Infinity) && x <= (options.max ?? Infinity) ? x : undefined;
    },
  };
}

/** One of a few words. */
export function choice<const C extends readonly string[]>(choices: C, options: Doc & { readonly default?: C[number] }): Param<C[number]> {
  return {
    default: options.default ?? choices[0]!,
    doc: options.doc,
    expects: choices.join(" | "),
    parse: (raw) => (choices.includes(raw as string) ? (raw as C[number]) : undefined),
  };
}

/** Yes or no. */
export function flag(initial: boolean, options: Doc): Param<boolean> {
  return {
    default: initial,
    doc: options.doc,
    expects: "true | false",
    parse: (raw) => (typeof raw === "boolean" ? raw : raw === "true" ? true : raw === "false" ? false : undefined),
  };
}

/** Text: a selector, a path. */
export function text(initial: string, options: Doc & { readonly expects?: string }): Param<string> {
  return {
    default: initial,
    doc: options.doc,
    expects: options.expects ?? "text",
    parse: (raw) => (typeof raw === "string" ? raw : undefined),
  };
}

/** A parameter that may be left out: null means "decided from the rest". */
export function optional<T>(param: Omit<Param<T>, "default"> & { readonly default?: T }): Param<T | null> {
  return {
    ...param,
    default: null,
    expects: `${param.expects} | null`,
    parse: (raw) => (raw === null || raw === "null" ? null : param.parse(raw)),
  };
}

export type Params = Readonly<Record<string, Param<unknown>>>;
export type ValuesOf<P extends Params> = { readonly [K in keyof P]: P[K] extends Param<infer T> ? T : never };

/** All parameters' values: those given, checked, and the defaults of the others. Errors: an unknown name, a wrong value. */
export function parseParams<P extends Params>(where: string, params: P, raw: unknown): ValuesOf<P> {
  if (typeof (raw ??= {}) !== "object" || Array.isArray(raw))
    throw new Fault(where, `its parameters must be an object; got ${JSON.stringify(raw)}`);
  const out: Record<string, unknown> = {};
  for (const [name, p] of Object.entries(params)) out[name] = p.default;
  for (const [name, value] of Object.entries(raw as object)) {
    if (value === undefined) continue;
    const p = Object.hasOwn(params, name) ? params[name] : undefined;
    if (!p) {
      const names = Object.keys(params);
      throw new Fault(where, `unknown parameter "${name}"; it takes ${names.length ? names.join(", ") : "none"}`);
    }
    const parsed = p.parse(value);
    if (parsed === undefined) throw new Fault(where, `${name} must be ${p.expects}; got ${JSON.stringify(value)}`);
    out[name] = parsed;
  }
  return out as ValuesOf<P>;
}

/** A maker with declared parameters: called in code with some of them, with `from` on JSON or text. */
export interface Declared<P extends Params, T> {
  (params?: Partial<ValuesOf<P>>): T;
  from(raw: unknown): T;
  readonly doc: string;
  readonly params: P;
}

/** What `make` makes of checked parameters (an optimizer, a loss, a schedule), in both spellings. */
export function declare<const P extends Params, T>(name: string, doc: string, params: P, make: (values: ValuesOf<P>) => T): Declared<P, T> {
  const from = (raw: unknown) => make(parseParams(name, params, raw));
  return Object.assign((values?: Partial<ValuesOf<P>>) => from(values), { from, doc, params });
}

/** `name:a=1,b=2` → its name and its values as text. A comma parts values only where a `name=` follows, so selectors may hold commas. */
export function parseCall(text: string): { readonly name: string; readonly values: Readonly<Record<string, string>> } {
  const colon = text.indexOf(":");
  const name = (colon < 0 ? text : text.slice(0, colon)).trim();
  const values: Record<string, string> = {};
  for (const part of colon < 0 ? [] : text.slice(colon + 1).split(/,(?=\s*\w+=)/)) {
    const equals = part.indexOf("=");
    if (equals < 0) throw new Fault(name, `"${part}" is not name=value; write ${name}:name=value,name=value`);
    values[part.slice(0, equals).trim()] = part.slice(equals + 1).trim();
  }
  return { name, values };
}

/** What a text like "adam:learningRate=1e-3" calls for, out of a table of makers. Errors: a name that is not in it, a wrong parameter. */
export function called<T>(where: string, table: Readonly<Record<string, { from(raw: unknown): T }>>, text: string): T {
  const { name, values } = parseCall(text);
  if (!Object.hasOwn(table, name)) throw new Fault(where, `unknown name "${name}"; there are ${Object.keys(table).join(", ")}`);
  return table[name]!.from(values);
}
