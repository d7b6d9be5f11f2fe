/** Worker threads and child processes that run one of pith's own files, from compiled output as well as from source. */
import { type ChildProcess, fork } from "node:child_process";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";

/** The file `name` beside the module `here` (its import.meta.url), with that module's extension: .ts in the source, .js once compiled. */
function beside(here: string, name: string): URL {
  return new URL(`./${name}${/\.ts($|\?)/.test(here) ? ".ts" : ".js"}`, here);
}

/** A worker thread that runs the file `name` beside `here` with `data` as its workerData. */
export function startThread(here: string, name: string, data: unknown): Worker {
  const file = beside(here, name);
  if (file.pathname.endsWith(".js")) return new Worker(file, { workerData: data });
  const register = JSON.stringify(pathToFileURL(sourceLoader()).href);
  const start = `import(${register}).then((m) => { m.register(); return import(${JSON.stringify(file.href)}); })`;
  return new Worker(start, { eval: true, workerData: data, execArgv: ["--conditions=source"] });
}

/** A child process that runs the file `name` beside `here`, with an IPC channel that takes typed arrays. */
export function startProcess(here: string, name: string): ChildProcess {
  const file = beside(here, name);
  const execArgv = file.pathname.endsWith(".js")
    ? []
    : ["--conditions=source", "--import", pathToFileURL(createRequire(here).resolve("tsx")).href];
  return fork(fileURLToPath(file), { execArgv, serialization: "advanced", stdio: ["ignore", "ignore", "inherit", "ipc"] });
}

/** tsx runs the source in a thread (a development dependency; compiled output never asks for it). */
function sourceLoader(): string {
  return createRequire(import.meta.url)
    .resolve("tsx/esm/api")
    .replace(/\.cjs$/, ".mjs");
}
